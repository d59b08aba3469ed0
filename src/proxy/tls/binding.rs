//! The channel binding `tls-server-end-point`: a hash of the certificate that the client was shown.
//!
//! Source: [RFC 5929, section 4.1](https://www.rfc-editor.org/rfc/rfc5929#section-4.1).

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use tokio_rustls::rustls::pki_types::CertificateDer;

/// Signature algorithms of certificates, as DER has their identifiers, with the hash that each of them uses.
const SIGNATURES: [(&[u8], &Algorithm); 10] = [
    // MD5 and SHA-1 are replaced by SHA-256, as the source has it.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &SHA256),
    // RSA with SHA-256, SHA-384 and SHA-512.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &SHA384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &SHA512),
    // ECDSA with SHA-256, SHA-384 and SHA-512.
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &SHA384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &SHA512),
    // DSA with SHA-256.
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x02], &SHA256),
];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The binding data of a certificate; `None` if its signature has no hash of its own, as Ed25519: then there is no channel
/// binding.
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (fields, _) = element(certificate, SEQUENCE)?;
    let (_to_be_signed, rest) = element(fields, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    let (_, hash) = SIGNATURES.iter().find(|(known, _)| *known == identifier)?;
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// The content of the DER element at the start, if it is of this type, and what follows the element.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (length, rest) = rest.split_at_checked((length & 0x7f).into())?;
    let length =
        length.iter().try_fold(0_usize, |sum, &byte| Some(sum.checked_mul(256)? | usize::from(byte)))?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn certificate(key: KeyPair) -> CertificateDer<'static> {
        CertificateParams::default().self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        let p256 = certificate(KeyPair::generate().unwrap());
        assert_eq!(end_point(&p256).unwrap(), digest(&SHA256, &p256).as_ref());
        let p384 = certificate(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
        assert_eq!(end_point(&p384).unwrap(), digest(&SHA384, &p384).as_ref());
        let ed25519 = certificate(KeyPair::generate_for(&PKCS_ED25519).unwrap());
        assert_eq!(end_point(&ed25519), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_binding() {
        let whole = certificate(KeyPair::generate().unwrap());
        for end in 0..whole.len() {
            let _ = end_point(&CertificateDer::from(&whole[..end]));
        }
        assert_eq!(end_point(&CertificateDer::from(&[0x30, 0x89, 0xff][..])), None);
        assert_eq!(element(&[0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255], SEQUENCE), None);
    }
}
