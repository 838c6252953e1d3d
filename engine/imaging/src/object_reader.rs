//! Reads files of other systems, peculiar encodings included: what has the VR UN is what the
//! dictionary says (PS3.5, 6.2.2), and what does not belong in a data set is passed over.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek as _, SeekFrom};
use std::path::Path;

use dicom_core::DataDictionary as _;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use encoding::dicom::file_meta;
use encoding::dicom::header::{
    Encoding, Header, HeaderError, Peculiarity, Skip, Tag, inflated_header, read_encoded,
};
use encoding::dicom::rewriting::{Vr, without_peculiarities};

use crate::image_attributes::SliceError;

/// Reads the file at `path`. The bounded header reader of `encoding` must have accepted it before.
///
/// # Errors
///
/// Fails if the file cannot be read, or is no DICOM object.
pub fn open(path: &Path) -> Result<DefaultDicomObject, SliceError> {
    if is_regular(path).map_err(unreadable)? {
        return OpenFileOptions::new().open_file(path).map_err(unreadable);
    }
    read(&std::fs::read(path).map_err(unreadable)?)
}

/// Reads a file. The bounded header reader of `encoding` must have accepted it before.
///
/// # Errors
///
/// Fails if the bytes are no DICOM object.
pub fn read(file: &[u8]) -> Result<DefaultDicomObject, SliceError> {
    let regular = regular_form(file)?;
    let bytes = regular.as_deref().unwrap_or(file);
    OpenFileOptions::new().from_reader(bytes).map_err(unreadable)
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> SliceError {
    SliceError::Unreadable(Box::new(error))
}

/// Whether the library reads the file as it is. So it does, as far as we know, where the file is
/// not one of the archive.
fn is_regular(path: &Path) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    let file_length = file.metadata()?.len();
    let mut beginning = Vec::new();
    file.by_ref().take(file_meta::META_BYTES_MAX).read_to_end(&mut beginning)?;
    let Some((start, transfer_syntax)) = file_meta::split(&beginning) else { return Ok(true) };
    let start = start as u64;
    file.seek(SeekFrom::Start(start))?;
    let encoding = Encoding::of(&transfer_syntax);
    let header = header_of(BufReader::new(file), file_length.saturating_sub(start), encoding);
    Ok(!needs_rewriting(header, encoding))
}

/// The file as the library reads it, if it has to be written anew for that.
fn regular_form(file: &[u8]) -> Result<Option<Vec<u8>>, SliceError> {
    let Some((start, transfer_syntax)) = file_meta::split(file) else { return Ok(None) };
    let Some((meta, data)) = file.split_at_checked(start) else { return Ok(None) };
    let encoding = Encoding::of(&transfer_syntax);
    let header = header_of(Cursor::new(data), data.len() as u64, encoding);
    if !needs_rewriting(header, encoding) {
        return Ok(None);
    }
    let regular = without_peculiarities(data, encoding, &vr_of).map_err(unreadable)?;
    Ok(Some([meta, &regular].concat()))
}

/// The header of a data set, which may be deflated.
fn header_of(
    source: impl Read + Skip,
    length: u64,
    encoding: Encoding,
) -> Result<Header, HeaderError> {
    if !encoding.is_deflated {
        return read_encoded(source, length, encoding);
    }
    let plain = inflated_header(source, length)?;
    let plain_length = plain.len() as u64;
    read_encoded(Cursor::new(plain), plain_length, Encoding::INFLATED)
}

/// Whether the library would not read the data set as it is meant. Of Big Endian, it reads all but
/// attributes in UN; these are refused.
fn needs_rewriting(header: Result<Header, HeaderError>, encoding: Encoding) -> bool {
    let Ok(header) = header else { return false };
    let peculiarities = header.peculiarities();
    if encoding.is_big_endian {
        return peculiarities.contains(&Peculiarity::UnknownRepresentation);
    }
    !peculiarities.is_empty()
}

/// The VR of an attribute of the standard. Where pixels decide between US and SS, US: both have the
/// same bytes.
fn vr_of(Tag(group, number): Tag) -> Option<Vr> {
    let entry = StandardDataDictionary.by_tag(dicom_core::Tag(group, number))?;
    // The entries of group lengths and private creators stand for many tags.
    let is_standard = group.is_multiple_of(2) && number != 0;
    let vr = dicom_core::dictionary::DataDictionaryEntry::vr(entry).relaxed();
    is_standard.then(|| vr.to_bytes())
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;
    use domain::ErrorChain;
    use encoding::dicom::file_meta::FileMeta;
    use encoding::dicom::header::starts;

    use super::*;
    use crate::sample::{HOUNSFIELD_UNITS, Sample};

    /// A small CT with `bytes` before its first element at or after `tag`.
    fn with(tag: Tag, bytes: &[u8]) -> Vec<u8> {
        let mut file = Sample::ct().bytes();
        let (start, transfer_syntax) = file_meta::split(&file).unwrap();
        let data = &file[start..];
        let encoding = Encoding::of(&transfer_syntax);
        let all = starts(Cursor::new(data), data.len() as u64, encoding).unwrap();
        let at = all.iter().find(|it| it.0 >= tag).map_or(data.len() as u64, |it| it.1);
        let at = start + usize::try_from(at).unwrap();
        file.splice(at..at, bytes.iter().copied());
        file
    }

    /// The same values, whether the file is read from memory or from the disk.
    #[track_caller]
    fn check(file: &[u8]) -> DefaultDicomObject {
        let folder = tempfile_of(file);
        let slice = crate::slice::read(&folder).unwrap();
        std::fs::remove_file(folder).unwrap();
        assert_eq!(slice.values, HOUNSFIELD_UNITS);
        read(file).unwrap()
    }

    fn tempfile_of(file: &[u8]) -> std::path::PathBuf {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        file.hash(&mut hasher);
        let name = format!("isocenter-object-{}-{}", std::process::id(), hasher.finish());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, file).unwrap();
        path
    }

    const PRIVATE: Tag = Tag(9, 0x1001);

    #[test]
    fn din_76_a_file_is_read_as_dcmtk_and_pydicom_read_it() {
        let end = Tag(0xFFFF, 0xFFFF);
        check(&with(end, &[]));
        check(&with(end, &[0; 64]));
        check(&with(Tag(0, 0), b"\0\0\x02\0UI\x04\x001.2\0"));
        check(&with(Tag(0, 0), b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0"));
        for placeholder in [b"??", b"  ", b"\0\0"] {
            let element = [b"\x09\0\x01\x10".as_slice(), placeholder, b"\x04\0abcd"].concat();
            check(&with(PRIVATE, &element));
        }
        let item =
            b"\xFE\xFF\0\xE0\xFF\xFF\xFF\xFF\x08\0\0\x01\x04\0\0\0CODE\xFE\xFF\x0D\xE0\0\0\0\0";
        let head = b"\x09\0\x01\x10UN\0\0\xFF\xFF\xFF\xFF".as_slice();
        let object = check(&with(PRIVATE, &[head, item, b"\xFE\xFF\xDD\xE0\0\0\0\0"].concat()));
        let items = object.element(dicom_core::Tag(9, 0x1001)).unwrap().items().unwrap();
        assert_eq!(items[0].element(tags::CODE_VALUE).unwrap().to_str().unwrap(), "CODE");
    }

    /// Every attribute that a slice is made of, in UN.
    #[test]
    fn din_76_attributes_of_the_standard_are_read_by_the_dictionary_in_an_un() {
        let file = Sample::ct().bytes();
        let (start, _) = file_meta::split(&file).unwrap();
        let mut data = &file[start..];
        let mut out = file[..start].to_vec();
        while let [a, b, c, d, vr @ ..] = data {
            let is_long = vr.starts_with(b"OW");
            let (head, length) = if is_long {
                (12, u32::from_le_bytes(data[8..12].try_into().unwrap()))
            } else {
                (8, u32::from(u16::from_le_bytes([data[6], data[7]])))
            };
            out.extend([*a, *b, *c, *d]);
            out.extend(b"UN\0\0");
            out.extend(length.to_le_bytes());
            let end = head + usize::try_from(length).unwrap();
            out.extend(&data[head..end]);
            data = &data[end..];
        }
        check(&out);
    }

    /// The same slice in another transfer syntax, with an attribute of the standard in UN.
    #[test]
    fn din_76_deflated_files_are_mended_and_those_of_big_endian_are_refused_with_the_reason() {
        let un = b"\x08\0\x70\0UN\0\0\x04\0\0\0ACME";
        let plain = with(Tag(0x0008, 0x0070), un);
        let (start, _) = file_meta::split(&plain).unwrap();
        let deflating = "1.2.840.10008.1.2.1.99";
        let meta = FileMeta {
            sop_class: "1.2.840.10008.5.1.4.1.1.2",
            sop_instance: "1.2.3",
            transfer_syntax: deflating,
            sending_ae: "A",
            receiving_ae: "B",
        };
        let encoder = flate2::Compression::default();
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), encoder);
        std::io::Write::write_all(&mut encoder, &plain[start..]).unwrap();
        let object = check(&[meta.to_bytes(), encoder.finish().unwrap()].concat());
        let maker = object.element(tags::MANUFACTURER).unwrap();
        assert_eq!(maker.to_str().unwrap(), "ACME");

        let meta = FileMeta { transfer_syntax: "1.2.840.10008.1.2.2", ..meta };
        let un = b"\0\x08\0\x70UN\0\0\0\0\0\x04ACME";
        let refused = read(&[meta.to_bytes(), un.to_vec()].concat()).unwrap_err();
        assert!(ErrorChain(&refused).to_string().contains("in Big Endian"), "{refused:?}");
    }
}
