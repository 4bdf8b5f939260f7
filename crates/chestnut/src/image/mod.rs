//! Radiographs: from the bytes of a file to a grey image, and from there to what a network sees.
//!
//! [`read`] tells PNG, JPEG and DICOM apart by content, checks every size against the limits below
//! before it allocates, and gives one [`Radiograph`] with what was noticed ([`Flag`]), or an [`ImageError`]
//! that says what to do. [`PixelSettings`] chooses a window and what becomes of padded pixels; [`recipe`] is
//! the paper's preprocessing (section 2.1); [`mod@explain`] shows every step; [`fingerprint`] finds one film
//! stored twice; [`contact_sheet`] draws a cohort. Nothing here knows labels, patients or networks, and no
//! message or `Debug` output may hold pixels or what identifies a patient.

pub mod contact_sheet;
pub mod dicom;
mod error;
pub mod explain;
pub mod fingerprint;
mod picture;
mod pixels;
mod quantile;
mod radiograph;
mod raster;
pub mod recipe;
pub mod variants;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::fs::to_hex;
use sha2::{Digest, Sha256};

pub use dicom::DicomFacts;
pub use error::ImageError;
pub(crate) use picture::Picture;
pub use pixels::{Flag, PixelSettings, Voi, looks_inverted};
pub use radiograph::Radiograph;

/// Largest file that is opened. The largest radiograph seen (43 x 43 cm at 0.1 mm, 16 bit) has 37 MB.
pub const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Largest number of pixels of one image; decoded, this many take 400 MB as `f32`.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Largest width or height in pixels.
pub const MAX_SIDE: u64 = 30_000;
/// Smallest width or height in pixels: below it nobody could read a chest, and nor can a network.
pub const MIN_SIDE: u64 = 32;

/// What a file is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG (JFIF or Exif).
    Jpeg,
    /// DICOM part 10, or a bare data set.
    Dicom,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Dicom => "DICOM",
        })
    }
}

/// An image file after decoding.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The grey image.
    pub radiograph: Radiograph,
    /// What the file was, whatever its extension.
    pub format: Format,
    /// What the DICOM header says; `None` for PNG and JPEG.
    pub dicom: Option<DicomFacts>,
    /// The colour channels really differ (a photograph, a screenshot, coloured annotation); the
    /// radiograph is then their Rec. 601 luma.
    pub colour: bool,
    /// What was done beyond plain decoding, and what a person should know of this picture.
    pub flags: Vec<Flag>,
    /// SHA-256 of the file's bytes, 64 hex digits: equal files have equal values.
    pub content_sha256: String,
}

/// Told after each step what it is called, what it did, and how the picture stands (see [`mod@explain`]).
pub(crate) type Trace<'t> = dyn FnMut(&'static str, String, &Radiograph) + 't;

/// An image file of which everything is known, and no value drawn that need not be.
pub(crate) struct Film {
    /// The grey image.
    pub(crate) picture: Picture,
    /// As [`Decoded::format`].
    pub(crate) format: Format,
    /// As [`Decoded::dicom`].
    pub(crate) dicom: Option<DicomFacts>,
    /// As [`Decoded::colour`].
    pub(crate) colour: bool,
    /// As [`Decoded::flags`].
    pub(crate) flags: Vec<Flag>,
    /// As [`Decoded::content_sha256`].
    pub(crate) content_sha256: String,
}

impl Film {
    fn draw(self) -> Decoded {
        let Self { picture, format, dicom, colour, flags, content_sha256 } = self;
        Decoded { radiograph: picture.draw(), format, dicom, colour, flags, content_sha256 }
    }
}

/// Picture, whether coloured, header facts, flags.
type Whole = (Picture, bool, Option<DicomFacts>, Vec<Flag>);

/// Reads the image file at `path`, whatever its name says it is, with the default [`PixelSettings`].
///
/// # Errors
/// [`ImageError`]; the file's name is not in the message.
pub fn read(path: &Path) -> Result<Decoded, ImageError> {
    read_with(path, &PixelSettings::default())
}

/// Reads the image file at `path`, whatever its name says it is.
///
/// # Errors
/// [`ImageError`]; the file's name is not in the message.
pub fn read_with(path: &Path, settings: &PixelSettings) -> Result<Decoded, ImageError> {
    decode_with(&read_bytes(path)?, settings)
}

/// The bytes of a regular file within [`MAX_FILE_BYTES`].
///
/// # Errors
/// [`ImageError::Io`], [`ImageError::NotAFile`], [`ImageError::Empty`] or [`ImageError::FileTooLarge`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, ImageError> {
    // Asked before opening: opening a named pipe would wait for ever.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(ImageError::NotAFile);
    }
    if about.len() > MAX_FILE_BYTES {
        return Err(ImageError::FileTooLarge { bytes: about.len() });
    }
    let mut bytes = Vec::with_capacity(about.len() as usize + 1);
    // The file may grow while it is read; one byte more than allowed tells.
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImageError::FileTooLarge { bytes: bytes.len() as u64 });
    }
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    Ok(bytes)
}

/// Decodes the content of one image file with the default [`PixelSettings`].
///
/// # Errors
/// [`ImageError`]; also when a decoder library panics, so that one bad file never ends a run.
pub fn decode(bytes: &[u8]) -> Result<Decoded, ImageError> {
    decode_with(bytes, &PixelSettings::default())
}

/// Decodes the content of one image file.
///
/// # Errors
/// As [`decode`].
pub fn decode_with(bytes: &[u8], settings: &PixelSettings) -> Result<Decoded, ImageError> {
    decode_traced(bytes, settings, None)
}

fn decode_traced(bytes: &[u8], settings: &PixelSettings, trace: Option<&mut Trace<'_>>) -> Result<Decoded, ImageError> {
    open(bytes)?.develop_traced(settings, trace).map(Film::draw)
}

/// An image file of which the header was read, if it has one, and no pixel: whoever looks at the header first and
/// decodes then has a deflated file inflated once.
pub(crate) struct Opened<'a> {
    bytes: &'a [u8],
    /// `None` for what cannot be decoded.
    format: Option<Format>,
    dicom: Option<dicom::Opened<'a>>,
}

/// Reads the header of one image file.
///
/// # Errors
/// [`ImageError`] if it is a DICOM file that is cut or cannot be walked. Of other formats nothing is read here, and
/// what is no image at all is refused by [`Opened::decode`].
pub(crate) fn open(bytes: &[u8]) -> Result<Opened<'_>, ImageError> {
    let format = sniff(bytes);
    let dicom = match format {
        Some(Format::Dicom) => Some(guarded(Format::Dicom, || dicom::Opened::of(bytes))?),
        _ => None,
    };
    Ok(Opened { bytes, format, dicom })
}

impl Opened<'_> {
    /// What the DICOM header says; `None` for other files.
    pub(crate) fn facts(&self) -> Option<&DicomFacts> {
        self.dicom.as_ref().map(dicom::Opened::facts)
    }

    /// Decodes the pixels.
    ///
    /// # Errors
    /// As [`decode`].
    pub(crate) fn decode(self, settings: &PixelSettings) -> Result<Decoded, ImageError> {
        self.develop(settings).map(Film::draw)
    }

    /// Decodes the pixels and draws none that need not be.
    ///
    /// # Errors
    /// As [`decode`].
    pub(crate) fn develop(self, settings: &PixelSettings) -> Result<Film, ImageError> {
        self.develop_traced(settings, None)
    }

    fn develop_traced(self, settings: &PixelSettings, trace: Option<&mut Trace<'_>>) -> Result<Film, ImageError> {
        let Self { bytes, format, dicom } = self;
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        let format = format.ok_or_else(|| ImageError::UnknownFormat { looks_like: looks_like(bytes) })?;
        let (picture, colour, dicom, mut flags) = guarded(format, || -> Result<Whole, ImageError> {
            if let Some(file) = dicom {
                let dicom::Developed { picture, facts, flags } = file.develop(settings, trace)?;
                return Ok((picture, false, Some(facts), flags));
            }
            let read = if format == Format::Png { raster::decode_png } else { raster::decode_jpeg };
            let (radiograph, colour) = read(bytes)?;
            let how = if colour { "Rec. 601 luma of the colours" } else { "grey values as stored" };
            if let Some(trace) = trace {
                trace("stored", format!("{format}, {} bits, {how}", radiograph.bits), &radiograph);
            }
            Ok((Picture::Drawn(radiograph), colour, None, Vec::new()))
        })?;
        let (width, height) = picture.size();
        check_size(width as u64, height as u64)?;
        let range = picture.range();
        if range.0 == range.1 {
            return Err(ImageError::NoContrast);
        }
        flags.extend(picture.border_flags(range));
        let content_sha256 = to_hex(&Sha256::digest(bytes));
        Ok(Film { picture, format, dicom, colour, flags, content_sha256 })
    }
}

/// Runs a decoder where a panic of it is an error of the file.
fn guarded<T>(format: Format, read: impl FnOnce() -> Result<T, ImageError>) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ImageError::Undecodable { format, detail: "the decoder failed on it".to_owned() }))
}

/// The format by magic bytes; `None` if it is not one that can be read.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(Format::Png)
    } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Some(Format::Jpeg)
    } else if dicom::looks_like_dicom(bytes) {
        Some(Format::Dicom)
    } else {
        None
    }
}

/// A guess at what a file is that cannot be read, for the error message.
fn looks_like(bytes: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 12] = [
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"RIFF", "WebP or another RIFF file"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"%PDF", "PDF"),
        (b"\x89HDF", "HDF5"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\0\0\0\x0cjP", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
    ];
    if let Some(&(_, name)) = KNOWN.iter().find(|&&(magic, _)| bytes.starts_with(magic)) {
        return name;
    }
    let start = &bytes[..bytes.len().min(512)];
    let is_text = start.iter().all(|&b| b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r' | 0x0C));
    if is_text { "text" } else { "something else" }
}

/// Refuses sizes outside the named limits; to be asked with the header's numbers before allocating.
fn check_size(width: u64, height: u64) -> Result<(), ImageError> {
    if width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(ImageError::TooSmall { width, height });
    }
    Ok(())
}

/// The real radiographs that tests may use: `CHESTNUT_DATA`, or `shared/data` beside the workspace.
/// Says so where they are absent, so that a skipped test is not taken for a passed one.
#[cfg(test)]
#[allow(clippy::print_stderr)]
pub(crate) fn real_data() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("CHESTNUT_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), std::path::PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no real radiographs at {}; set CHESTNUT_DATA to their folder", folder.display());
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n"), Some(Format::Png));
        assert_eq!(sniff(&[0xFF, 0xD8, 0xFF, 0xE0]), Some(Format::Jpeg));
        assert_eq!(sniff(b"image,label\n"), None);
        let error = decode(b"image,label\n1.png,0\n").expect_err("a text file");
        assert!(error.to_string().contains("text"), "{error}");
        assert_eq!(decode(b"").expect_err("nothing").code(), "empty");
    }

    #[test]
    fn what_is_no_image_opens_and_is_refused_when_it_is_decoded() {
        for (bytes, code) in [(&b"image,label\n1.png,0\n"[..], "unknown_format"), (&b""[..], "empty")] {
            let opened = open(bytes).expect("nothing was read");
            assert!(opened.facts().is_none());
            assert_eq!(opened.decode(&PixelSettings::default()).expect_err("no image").code(), code);
        }
        // A DICOM file that ends within its first element.
        let mut cut = vec![0; 128];
        cut.extend(b"DICM\x08\0\x05\0CS\x0A\0ISO");
        assert_eq!(open(&cut).err().expect("a cut header").code(), "truncated");
    }

    #[test]
    fn sizes_are_checked() {
        assert!(check_size(1024, 1024).is_ok());
        assert!(check_size(MAX_SIDE + 1, 40).is_err());
        assert!(check_size(20_000, 20_000).is_err());
        assert_eq!(check_size(1, 1).expect_err("one pixel").code(), "too_small");
    }

    #[test]
    fn folders_and_absent_files_are_errors() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(read(folder.path()), Err(ImageError::NotAFile)));
        assert!(matches!(read(&folder.path().join("none.png")), Err(ImageError::Io(_))));
    }

    #[test]
    fn published_files_load_whatever_their_name() {
        let Some(data) = real_data() else { return };
        let mut loaded = 0;
        for entry in std::fs::read_dir(data.join("originals/files")).expect("the folder of originals") {
            let path = entry.expect("an entry").path();
            let decoded = read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(!decoded.colour, "{} is grey", path.display());
            assert_eq!(decoded.radiograph.pixels.len(), decoded.radiograph.width * decoded.radiograph.height);
            loaded += 1;
        }
        assert!(loaded > 0, "no original in {}", data.display());
    }

    #[test]
    fn hex_of_a_known_digest() {
        // FIPS 180-4's example.
        let digest = to_hex(&Sha256::digest(b"abc"));
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
