//! The seven networks of Gozzi et al. 2022 (section 2.2), one file per architecture.
//!
//! All are used without their ImageNet classifier: feature extractor, global average pooling, own head.

mod densenet;
mod inception_resnet_v2;
mod vgg;
mod xception;

use crate::graph::Graph;
use crate::head::Head;
use std::fmt;
use std::str::FromStr;

/// A network architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// Huang et al. 2017, 121 layers; embedding 1,024.
    DenseNet121,
    /// 169 layers; embedding 1,664.
    DenseNet169,
    /// 201 layers; embedding 1,920.
    DenseNet201,
    /// Szegedy et al. 2017; embedding 1,536.
    InceptionResNetV2,
    /// Chollet 2017; embedding 2,048.
    Xception,
    /// Simonyan and Zisserman 2015, 16 layers; embedding 512.
    Vgg16,
    /// 19 layers; embedding 512.
    Vgg19,
}

impl Architecture {
    /// All seven, in the order of the paper's tables.
    pub const ALL: [Self; 7] = [
        Self::DenseNet121,
        Self::DenseNet169,
        Self::DenseNet201,
        Self::InceptionResNetV2,
        Self::Xception,
        Self::Vgg16,
        Self::Vgg19,
    ];

    /// Lower-case name used on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DenseNet121 => "densenet121",
            Self::DenseNet169 => "densenet169",
            Self::DenseNet201 => "densenet201",
            Self::InceptionResNetV2 => "inception_resnet_v2",
            Self::Xception => "xception",
            Self::Vgg16 => "vgg16",
            Self::Vgg19 => "vgg19",
        }
    }

    /// The network with a head, for 3-channel input.
    #[must_use]
    pub fn graph(self, head: &Head) -> Graph {
        self.graph_with_channels(head, 3)
    }

    /// The network with a head, for input of `channels` channels (TorchXRayVision's DenseNet121 has 1).
    #[must_use]
    pub fn graph_with_channels(self, head: &Head, channels: usize) -> Graph {
        match self {
            Self::DenseNet121 => densenet::graph(self.name(), [6, 12, 24, 16], channels, head),
            Self::DenseNet169 => densenet::graph(self.name(), [6, 12, 32, 32], channels, head),
            Self::DenseNet201 => densenet::graph(self.name(), [6, 12, 48, 32], channels, head),
            Self::InceptionResNetV2 => inception_resnet_v2::graph(self.name(), channels, head),
            Self::Xception => xception::graph(self.name(), channels, head),
            Self::Vgg16 => vgg::graph(self.name(), [2, 2, 3, 3, 3], channels, head),
            Self::Vgg19 => vgg::graph(self.name(), [2, 2, 4, 4, 4], channels, head),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_lowercase().replace(['-', '_'], "");
        Self::ALL.into_iter().find(|a| a.name().replace('_', "") == wanted).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|a| a.name()).collect();
            format!("unknown network {text:?}; known are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_have_the_papers_widths_and_maps() {
        let widths: Vec<_> = Architecture::ALL.iter().map(|a| a.graph(&Head::chexpert()).embedding_width()).collect();
        assert_eq!(widths, [1024, 1664, 1920, 1536, 2048, 512, 512]);
        assert_eq!(widths.iter().sum::<usize>(), 9216);
        for a in Architecture::ALL {
            let graph = a.graph(&Head::chexpert());
            let map = graph.shapes(224, 224).expect("224 fits")[graph.feature_map];
            let side = if a == Architecture::InceptionResNetV2 { 5 } else { 7 };
            assert_eq!((map.height, map.width), (side, side), "{a}");
        }
    }

    #[test]
    fn multiply_adds_are_the_published_ones() {
        // Counted independently with hooks in PyTorch, 14 outputs, 224 x 224, in 1e9; VGG without its FC layers.
        let expected = [2.833, 3.358, 4.289, 6.467, 4.551, 15.347, 19.509];
        for (a, e) in Architecture::ALL.into_iter().zip(expected) {
            let macs = a.graph(&Head::chexpert()).multiply_adds(224, 224).expect("224 fits") as f64 / 1e9;
            assert!((macs - e).abs() / e < 0.004, "{a}: {macs} against {e}");
        }
    }

    #[test]
    fn names_parse() {
        assert_eq!("DenseNet-121".parse(), Ok(Architecture::DenseNet121));
        assert_eq!("InceptionResNetV2".parse(), Ok(Architecture::InceptionResNetV2));
        assert!("resnet50".parse::<Architecture>().expect_err("unknown").contains("vgg16"));
    }
}
