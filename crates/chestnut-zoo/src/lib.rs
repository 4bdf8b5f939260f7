//! What a network is: its graph, its weights and where they come from.
//!
//! | network | file | embedding | source of the architecture |
//! |---|---|---|---|
//! | DenseNet121, 169, 201 | `nets/densenet.rs` | 1,024 / 1,664 / 1,920 | Huang et al. 2017 |
//! | InceptionResNetV2 | `nets/inception_resnet_v2.rs` | 1,536 | Szegedy et al. 2017 |
//! | Xception | `nets/xception.rs` | 2,048 | Chollet 2017 |
//! | VGG16, VGG19 | `nets/vgg.rs` | 512 | Simonyan and Zisserman 2015 |
//!
//! A graph is written once and read by `chestnut-nn` (fast inference on a CPU) and `chestnut-train` (forward and
//! backward). Weights come from the readers of [`read`] and stay in a [`store`]; [`onnx`] writes networks for others. This
//! crate does not know how a network is run or learns.

pub mod graph;
pub mod head;
pub mod layers;
pub mod nets;
pub mod onnx;
pub mod read;
pub mod shipped;
pub mod store;
pub mod weights;

pub use graph::{Graph, Op};
pub use head::{Activation, Head, HeadLayer};
pub use nets::Architecture;
pub use weights::{Tensor, Weights};
