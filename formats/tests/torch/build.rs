//! PyTorch checkpoints made for a test.

#![allow(dead_code)] // Each test that includes this uses a part.

/// A zip archive of `entries`, stored as they are; with `zip64`, sizes and places stand in zip64's fields.
pub fn archive(entries: &[(&str, Vec<u8>)], zip64: bool) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::<u8>::new(), Vec::<u8>::new());
    let wide = [0xff_u8; 4];
    for (name, data) in entries {
        let (local, len) = (file.len() as u64, data.len() as u64);
        let crc = crc32(data).to_le_bytes();
        let narrow = if zip64 { wide } else { (len as u32).to_le_bytes() };
        let place = if zip64 { wide } else { (local as u32).to_le_bytes() };
        let mut extra = vec![];
        if zip64 {
            extra.extend([1, 0, 24, 0]);
            extra.extend([len, len, local].map(u64::to_le_bytes).concat());
        }
        let name_len = (name.len() as u16).to_le_bytes();
        let extra_len = (extra.len() as u16).to_le_bytes();
        // Padding in the local header alone, as PyTorch aligns numbers.
        let pad = [b'F', b'B', 3, 0, b'Z', b'Z', b'Z'];
        file.extend(b"PK\x03\x04\x2d\0\0\0\0\0\0\0\0\0".iter().chain(&crc).chain(&narrow).chain(&narrow));
        file.extend(name_len.iter().chain(&(pad.len() as u16).to_le_bytes()).chain(name.as_bytes()).chain(&pad));
        file.extend_from_slice(data);
        directory.extend(b"PK\x01\x02\x2d\0\x2d\0\0\0\0\0\0\0\0\0".iter().chain(&crc).chain(&narrow).chain(&narrow));
        directory.extend(name_len.iter().chain(&extra_len).chain(&[0; 10]).chain(&place));
        directory.extend(name.as_bytes().iter().chain(&extra));
    }
    let (start, len, count) = (file.len() as u64, directory.len() as u64, entries.len() as u64);
    file.extend(directory);
    if zip64 {
        let end64 = file.len() as u64;
        file.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
        file.extend([count, count, len, start].map(u64::to_le_bytes).concat());
        file.extend(b"PK\x06\x07\0\0\0\0".iter().chain(&end64.to_le_bytes()).chain(&[1, 0, 0, 0]));
        file.extend(b"PK\x05\x06\0\0\0\0".iter().chain(&[0xff; 12]).chain(&[0, 0]));
    } else {
        let count = (count as u16).to_le_bytes();
        file.extend(b"PK\x05\x06\0\0\0\0".iter().chain(&count).chain(&count));
        file.extend((len as u32).to_le_bytes().iter().chain(&(start as u32).to_le_bytes()).chain(&[0, 0]));
    }
    file
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// A tensor of [`checkpoint`]: name, type of storage (e.g. `BFloat16Storage`), bytes of a number, shape, all bytes.
pub type Tensor = (String, &'static str, usize, Vec<usize>, Vec<u8>);

/// What `torch.save` writes of a dictionary of `tensors`.
pub fn checkpoint(tensors: &[Tensor]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    let mut entries = Vec::new();
    for (key, (name, storage, size, shape, bytes)) in tensors.iter().enumerate() {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        let numbers = bytes.len() / size;
        text(&mut pickle, name);
        pickle.extend(view(storage, &key.to_string(), numbers, 0, shape, &strides));
        entries.push((format!("pytorch_model/data/{key}"), bytes.clone()));
    }
    pickle.extend(b"u.");
    entries.insert(0, ("pytorch_model/data.pkl".into(), pickle));
    entries.push(("pytorch_model/byteorder".into(), b"little".to_vec()));
    let entries: Vec<_> = entries.iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
    archive(&entries, false)
}

/// The program that makes a tensor.
pub fn view(storage: &str, key: &str, numbers: usize, offset: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let mut pickle = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut pickle, "storage");
    pickle.extend(format!("ctorch\n{storage}\n").into_bytes());
    text(&mut pickle, key);
    text(&mut pickle, "cpu");
    int(&mut pickle, numbers);
    pickle.extend(b"tQ");
    int(&mut pickle, offset);
    for extents in [shape, strides] {
        pickle.push(b'(');
        extents.iter().for_each(|&extent| int(&mut pickle, extent));
        pickle.push(b't');
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    pickle
}

pub fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn int(pickle: &mut Vec<u8>, value: usize) {
    pickle.extend([0x8a, 8]);
    pickle.extend((value as u64).to_le_bytes());
}
