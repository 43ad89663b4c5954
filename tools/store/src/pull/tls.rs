//! Encryption, without C.
//!
//! rustls with graviola, whose arithmetic is verified assembly inside Rust: for x86-64 with what processors have had
//! since about 2014 (AES, AVX2, ADX, BMI) and for ARM with AES and SHA-2, which is every Mac, phone and Raspberry Pi 5,
//! but no Pi 4. Providers that run everywhere either compile C (ring, aws-lc) or are drafts (RustCrypto's).

use std::path::PathBuf;

use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::error::PullError;

/// How to encrypt; why not, where this machine can't.
///
/// # Errors
/// [`PullError::Roots`].
pub(super) fn config() -> Result<Result<TlsConfig, &'static str>, PullError> {
    let builder = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots()?);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if has_instructions() {
        let provider = std::sync::Arc::new(rustls_graviola::default_provider());
        return Ok(Ok(builder.unversioned_rustls_crypto_provider(provider).build()));
    }
    drop(builder);
    Ok(Err("this processor lacks instructions for encryption that this program is made of"))
}

/// Those of a file that `SSL_CERT_FILE` names, as other programs have it, or Mozilla's.
fn roots() -> Result<RootCerts, PullError> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(RootCerts::WebPki);
    };
    let bad = |reason: String| PullError::Roots { path: path.clone(), reason };
    let text = std::fs::read(&path).map_err(|error| bad(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| bad(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(bad("there is no certificate in it".into()));
    }
    Ok(RootCerts::from(certificates))
}

/// What graviola asks for; it panics without.
#[cfg(target_arch = "x86_64")]
fn has_instructions() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("aes") && has!("pclmulqdq") && has!("bmi1") && has!("bmi2") && has!("adx") && has!("avx") && has!("avx2")
}

/// What graviola asks for; it panics without.
#[cfg(target_arch = "aarch64")]
fn has_instructions() -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    has!("neon") && has!("aes") && has!("pmull") && has!("sha2")
}
