//! Why a file is no usable radiograph: one enum for all formats.
//!
//! Messages begin with a verb, because the caller names the file, and end with the way out. They quote sizes, UIDs and
//! names of the standard, never text of a patient's header.

use thiserror::Error;

use super::{Format, MAX_FILE_BYTES, MAX_PIXELS, MAX_SIDE, MIN_SIDE};

/// Why a file is not a usable radiograph. The message does not name the file: the caller does.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The operating system refused.
    #[error("cannot be read or written ({0}); check that it exists and that you have access")]
    Io(#[from] std::io::Error),
    /// A folder, a pipe, a device.
    #[error("is not a regular file; give image files only")]
    NotAFile,
    /// Zero bytes.
    #[error("is empty (0 bytes); copy it again from its source")]
    Empty,
    /// Above [`MAX_FILE_BYTES`].
    #[error("has {bytes} bytes, above the limit of {limit}; export the image alone, without other frames", limit = MAX_FILE_BYTES)]
    FileTooLarge {
        /// Size of the file.
        bytes: u64,
    },
    /// Not one of the formats that can be read.
    #[error("is not a PNG, JPEG or DICOM file (its content looks like {looks_like}); convert it to one of these")]
    UnknownFormat {
        /// What the first bytes suggest.
        looks_like: &'static str,
    },
    /// Ends too early.
    #[error("is a truncated {format} file ({detail}); copy it again from its source")]
    Truncated {
        /// The format.
        format: Format,
        /// What was expected where.
        detail: String,
    },
    /// Whole, but its content breaks the format or uses a part that is not supported.
    #[error("is a {format} file that cannot be decoded ({detail}); export it again or convert it to grey PNG")]
    Undecodable {
        /// The format.
        format: Format,
        /// What is wrong.
        detail: String,
    },
    /// An image of ours that could not be written.
    #[error("cannot be written as {format} ({detail}); check its size and values")]
    NotEncodable {
        /// The format.
        format: Format,
        /// What is wrong.
        detail: String,
    },
    /// Above [`MAX_SIDE`] or [`MAX_PIXELS`], by its header.
    #[error("declares {width} x {height} pixels, above the limit of {side} per side or {pixels} in all; scale it down", side = MAX_SIDE, pixels = MAX_PIXELS)]
    TooLarge {
        /// Declared width.
        width: u64,
        /// Declared height.
        height: u64,
    },
    /// Below [`MIN_SIDE`].
    #[error("is {width} x {height} pixels, below the least side of {side}; use the full-size image", side = MIN_SIDE)]
    TooSmall {
        /// Width.
        width: u64,
        /// Height.
        height: u64,
    },
    /// Every pixel equal.
    #[error("has no contrast: every pixel has the same value; remove it or export it again")]
    NoContrast,
    /// A DICOM object without an image: a report, a presentation state, an encapsulated PDF, a stripped file.
    #[error(
        "is a DICOM object without pixel data (SOP class {sop_class}, modality {modality}); give image objects only"
    )]
    NoPixelData {
        /// Name or UID of the SOP class, or "not stated".
        sop_class: String,
        /// Modality, or "not stated".
        modality: String,
    },
    /// A transfer syntax that is not decoded.
    #[error(
        "is DICOM in transfer syntax {uid} ({name}), which is not decoded; convert it to Explicit VR Little Endian (dcmdjpeg, dcmdjpls, gdcmconv --raw)"
    )]
    UnsupportedSyntax {
        /// Transfer syntax UID.
        uid: String,
        /// Its name in the standard, or "unknown".
        name: String,
    },
    /// A DICOM image that is not one grey frame.
    #[error("is not a single grey frame: {detail}; give MONOCHROME1 or MONOCHROME2 radiographs with one frame")]
    NotOneGreyFrame {
        /// What it is instead.
        detail: String,
    },
    /// A DICOM attribute that is missing or impossible.
    #[error("has a DICOM header that cannot be right: {detail}; export it again from the PACS")]
    BadHeader {
        /// The attribute and its value.
        detail: String,
    },
}

impl ImageError {
    /// A short fixed word for counting reasons in tables.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::NotAFile => "unreadable",
            Self::Empty => "empty",
            Self::FileTooLarge { .. } | Self::TooLarge { .. } => "too_large",
            Self::UnknownFormat { .. } => "unknown_format",
            Self::Truncated { .. } => "truncated",
            Self::Undecodable { .. } => "undecodable",
            Self::NotEncodable { .. } => "not_encodable",
            Self::TooSmall { .. } => "too_small",
            Self::NoContrast => "no_contrast",
            Self::NoPixelData { .. } => "no_pixel_data",
            Self::UnsupportedSyntax { .. } => "unsupported_syntax",
            Self::NotOneGreyFrame { .. } => "not_one_grey_frame",
            Self::BadHeader { .. } => "bad_header",
        }
    }
}
