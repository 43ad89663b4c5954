//! The part of Python's pickle (protocols 2 to 5) in which lists of tensors are written.
//!
//! A pickle is a program for a stack machine. This machine knows the instructions that `torch.save` writes for
//! dictionaries, tuples, lists, numbers, strings and tensors, and of Python's names only those of [`Global`]. There is
//! nothing that it could run, and each instruction keeps a bounded number of values, so that memory is bounded by the
//! length of the program.

use std::collections::HashMap;

use super::fault::TorchFault;
use super::global::Global;
use crate::safetensors::Dtype;

/// A value of the program. Lists and the like are numbers in [`Heap`]: values are small, and nothing nests.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool,
    /// An integer of up to eight bytes.
    Int(i64),
    /// A number that no tensor needs.
    OtherNumber,
    Text(&'a str),
    Bytes,
    /// A tuple or list.
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool => "a truth value",
            Value::Int(_) | Value::OtherNumber => "a number",
            Value::Text(_) => "a string",
            Value::Bytes => "a string of bytes",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Global(_) => "a type",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// Numbers in an entry of the archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// The entry is `data/KEY`.
    pub key: &'a str,
    /// Of its numbers; `None` for bytes.
    pub dtype: Option<Dtype>,
    /// How many there are.
    pub len: u64,
}

/// A view of a storage. Offset and strides count numbers.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub dtype: Dtype,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What values point to.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    pub lists: Vec<Vec<Value<'a>>>,
    pub dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub storages: Vec<Storage<'a>>,
    pub tensors: Vec<View<'a>>,
}

/// The machine.
struct Machine<'a> {
    program: &'a [u8],
    /// The instruction being run, and where the next byte is.
    here: usize,
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    heap: Heap<'a>,
}

/// Runs `program`: its value, and what that points to.
pub(super) fn read(program: &[u8]) -> Result<(Value<'_>, Heap<'_>), TorchFault> {
    let (stack, marks, memo, heap) = (Vec::new(), Vec::new(), HashMap::new(), Heap::default());
    let mut machine = Machine { program, here: 0, at: 0, stack, marks, memo, heap };
    loop {
        machine.here = machine.at;
        let [code] = machine.take()?;
        if code == b'.' {
            let value = machine.pop()?;
            return Ok((value, machine.heap));
        }
        machine.step(code)?;
    }
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8) -> Result<(), TorchFault> {
        match code {
            // PROTO, FRAME
            0x80 => self.take::<1>().map(drop),
            0x95 => self.take::<8>().map(drop),
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool),
            0x89 => self.push(Value::Bool),
            // BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()))
            }
            b'K' => {
                let [value] = self.take()?;
                self.push(Value::Int(value.into()))
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()))
            }
            0x8a => {
                let [len] = self.take()?;
                let value = long(self.slice(len.into())?);
                self.push(value)
            }
            b'G' => {
                self.take::<8>()?;
                self.push(Value::OtherNumber)
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => {
                let len = u32::from_le_bytes(self.take()?);
                self.text(len.into())
            }
            0x8c => {
                let [len] = self.take()?;
                self.text(len.into())
            }
            0x8d => {
                let len = u64::from_le_bytes(self.take()?);
                self.text(len)
            }
            // SHORT_BINBYTES, SHORT_BINSTRING, BINBYTES
            b'C' | b'U' => {
                let [len] = self.take()?;
                self.slice(len.into())?;
                self.push(Value::Bytes)
            }
            b'B' => {
                let len = u32::from_le_bytes(self.take()?);
                self.slice(len.into())?;
                self.push(Value::Bytes)
            }
            // MARK, POP, EMPTY_TUPLE and EMPTY_LIST, EMPTY_DICT
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b')' | b']' => self.list(Vec::new()),
            b'}' => self.dict(),
            // TUPLE and LIST, TUPLE1, TUPLE2, TUPLE3
            b't' | b'l' => {
                let items = self.since_mark()?;
                self.list(items)
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or_else(|| self.empty())?;
                let items = self.split(from)?;
                self.list(items)
            }
            // APPEND, APPENDS
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.extend(items)
            }
            // SETITEM, SETITEMS
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let [number] = self.take()?;
                self.keep(number.into())
            }
            b'r' => {
                let number = u32::from_le_bytes(self.take()?);
                self.keep(number)
            }
            0x94 => {
                // Each entry took a byte of the program at least.
                let number = u32::try_from(self.memo.len()).map_err(|_| self.wrong("too many values are kept"))?;
                self.keep(number)
            }
            b'h' => {
                let [number] = self.take()?;
                self.recall(number.into())
            }
            b'j' => {
                let number = u32::from_le_bytes(self.take()?);
                self.recall(number)
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(module, name),
                _ => Err(self.wrong("a name that is no string")),
            },
            // REDUCE, BUILD, BINPERSID
            b'R' => self.call(),
            b'b' => self.attributes(),
            b'Q' => self.storage(),
            code => Err(TorchFault::Instruction { at: self.here, code }),
        }
    }

    fn wrong(&self, what: &'static str) -> TorchFault {
        TorchFault::Pickle { at: self.here, what }
    }

    fn empty(&self) -> TorchFault {
        self.wrong("the stack is empty")
    }

    fn slice(&mut self, len: u64) -> Result<&'a [u8], TorchFault> {
        let rest = self.program.get(self.at..).unwrap_or_default();
        let slice = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let slice = slice.ok_or_else(|| self.wrong("the program ends early"))?;
        self.at += slice.len();
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], TorchFault> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.slice(N as u64)?);
        Ok(bytes)
    }

    fn line(&mut self) -> Result<&'a str, TorchFault> {
        let rest = self.program.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| self.wrong("a name without an end"))?;
        let line = self.slice(end as u64)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.wrong("a name that is not UTF-8"))
    }

    fn text(&mut self, len: u64) -> Result<(), TorchFault> {
        let text = std::str::from_utf8(self.slice(len)?).map_err(|_| self.wrong("a string that is not UTF-8"))?;
        self.push(Value::Text(text))
    }

    #[allow(clippy::unnecessary_wraps)] // The arms of `step` end with it.
    fn push(&mut self, value: Value<'a>) -> Result<(), TorchFault> {
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>, TorchFault> {
        // What lies under a mark is taken by the mark's instruction alone.
        match self.marks.last() {
            Some(&mark) if self.stack.len() <= mark => Err(self.empty()),
            _ => self.stack.pop().ok_or_else(|| self.empty()),
        }
    }

    /// Takes the values from number `from` on off the stack.
    fn split(&mut self, from: usize) -> Result<Vec<Value<'a>>, TorchFault> {
        match self.marks.last() {
            Some(&mark) if from < mark => Err(self.empty()),
            _ => Ok(self.stack.split_off(from)),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, TorchFault> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong("no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn list(&mut self, items: Vec<Value<'a>>) -> Result<(), TorchFault> {
        self.heap.lists.push(items);
        self.push(Value::List(self.heap.lists.len() - 1))
    }

    fn dict(&mut self) -> Result<(), TorchFault> {
        self.heap.dicts.push(Vec::new());
        self.push(Value::Dict(self.heap.dicts.len() - 1))
    }

    fn extend(&mut self, items: Vec<Value<'a>>) -> Result<(), TorchFault> {
        match self.stack.last() {
            Some(&Value::List(list)) => self.heap.lists[list].extend(items),
            _ => return Err(self.wrong("a value for what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Value<'a>]) -> Result<(), TorchFault> {
        match self.stack.last() {
            Some(&Value::Dict(dict)) if items.len().is_multiple_of(2) => {
                self.heap.dicts[dict].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => Err(self.wrong("a key for what is no dictionary")),
        }
    }

    fn keep(&mut self, number: u32) -> Result<(), TorchFault> {
        let value = *self.stack.last().ok_or_else(|| self.empty())?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), TorchFault> {
        let value = self.memo.get(&number).copied().ok_or_else(|| self.wrong("a value that was never kept"))?;
        self.push(value)
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Result<(), TorchFault> {
        match Global::find(module, name) {
            Some(global) => self.push(Value::Global(global)),
            None => Err(TorchFault::Global { at: self.here, name: format!("{module}.{name}") }),
        }
    }

    /// A name with its arguments.
    fn call(&mut self) -> Result<(), TorchFault> {
        let (arguments, Value::Global(global)) = (self.pop()?, self.pop()?) else {
            return Err(self.wrong("a call of what is no type"));
        };
        let Value::List(list) = arguments else { return Err(self.wrong("arguments that are no tuple")) };
        // Taken as they are, so that no list is copied for each of many calls.
        let first = self.heap.lists[list].first().copied();
        match (global, first) {
            (Global::OrderedDict, None) => self.dict(),
            (Global::Size, Some(Value::List(extents))) => self.push(Value::List(extents)),
            (Global::Device, _) => self.push(Value::None),
            (Global::Parameter, Some(Value::Tensor(tensor))) => self.push(Value::Tensor(tensor)),
            (Global::Tensor | Global::TensorOfDtype, Some(Value::Storage(storage))) => {
                let storage = self.heap.storages[storage];
                let view = self.view(global == Global::TensorOfDtype, storage, list);
                self.heap.tensors.push(view.ok_or_else(|| self.wrong("a tensor with wrong arguments"))?);
                self.push(Value::Tensor(self.heap.tensors.len() - 1))
            }
            _ => Err(self.wrong("a call with wrong arguments")),
        }
    }

    fn view(&self, own_dtype: bool, storage: Storage<'a>, arguments: usize) -> Option<View<'a>> {
        /// More than weights have, and few enough that a short program cannot make large views.
        const MAX_DIMENSIONS: usize = 8;
        let arguments = self.heap.lists[arguments].as_slice();
        let [_, offset, shape, strides, rest @ ..] = arguments else { return None };
        let dtype = match (own_dtype, rest) {
            (true, [_, _, Value::Global(Global::Dtype(dtype)), ..]) => *dtype,
            (false, _) => storage.dtype?,
            _ => return None,
        };
        let number = |value: &Value| match value {
            Value::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        };
        let numbers = |value: &Value| match value {
            Value::List(list) if self.heap.lists[*list].len() <= MAX_DIMENSIONS => {
                self.heap.lists[*list].iter().map(number).collect::<Option<Vec<u64>>>()
            }
            _ => None,
        };
        Some(View { storage, dtype, offset: number(offset)?, shape: numbers(shape)?, strides: numbers(strides)? })
    }

    /// The attributes of a dictionary, which are no entries of it.
    fn attributes(&mut self) -> Result<(), TorchFault> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(self.wrong("attributes of what is no dictionary")),
        }
    }

    /// A storage: `("storage", type, key, device, numbers)`.
    fn storage(&mut self) -> Result<(), TorchFault> {
        let arguments = match self.pop()? {
            Value::List(list) => self.heap.lists[list].as_slice(),
            _ => &[],
        };
        let &[Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, Value::Int(len)] =
            arguments
        else {
            return Err(self.wrong("a storage with wrong arguments"));
        };
        let len = u64::try_from(len).map_err(|_| self.wrong("a storage of negative length"))?;
        self.heap.storages.push(Storage { key, dtype, len });
        self.push(Value::Storage(self.heap.storages.len() - 1))
    }
}

/// An integer of any length, if it fits.
fn long(bytes: &[u8]) -> Value<'static> {
    let Some(last) = bytes.last() else { return Value::Int(0) };
    let mut wide = if last & 0x80 == 0 { [0; 8] } else { [0xff; 8] };
    match wide.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        }
        None => Value::OtherNumber,
    }
}
