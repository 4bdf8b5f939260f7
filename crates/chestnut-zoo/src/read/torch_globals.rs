//! The names that a pickle may use.
//!
//! A few stand for something here: a dictionary, a tensor of these values, a kind of storage. Classes of PyTorch's,
//! torchvision's and TorchXRayVision's models may be named too, since whole saved models are full of them, but are
//! nothing but names: no code of theirs exists here. Every other name is refused.

use super::ReadError;
use super::floats::FloatKind;

/// Modules whose classes objects may claim to be of.
const MODULES: [&str; 4] =
    ["torch.nn.modules", "torch.nn.parallel.data_parallel", "torchvision.models", "torchxrayvision.models"];
/// Other names that saved models hold and nobody here asks about.
const NAMES: [(&str, &str); 4] = [
    ("torch", "device"),
    ("torch", "float32"),
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"),
    ("torch.nn.parameter", "Parameter"),
];
/// Longest name of a class with its module.
const MAX_CLASS_NAME: usize = 200;

/// What one value of a storage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float(FloatKind),
    /// Whole numbers and truth values, this many bytes wide: not read.
    Other(usize),
}

impl Element {
    /// Bytes of one value.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Float(kind) => kind.width(),
            Self::Other(width) => width,
        }
    }
}

/// A name with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Set,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Element),
}

/// The meaning of a name; `None` if it is nothing but the name of a class.
pub(super) fn lookup(module: &str, name: &str) -> Result<Option<Global>, ReadError> {
    let known = match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("builtins" | "__builtin__", "set") => Global::Set,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch", "Size") => Global::Size,
        ("torch", "FloatStorage") => Global::Storage(Element::Float(FloatKind::F32)),
        ("torch", "DoubleStorage") => Global::Storage(Element::Float(FloatKind::F64)),
        ("torch", "HalfStorage") => Global::Storage(Element::Float(FloatKind::F16)),
        ("torch", "BFloat16Storage") => Global::Storage(Element::Float(FloatKind::Bf16)),
        ("torch", "LongStorage") => Global::Storage(Element::Other(8)),
        ("torch", "IntStorage") => Global::Storage(Element::Other(4)),
        ("torch", "ShortStorage") => Global::Storage(Element::Other(2)),
        ("torch", "CharStorage" | "ByteStorage" | "BoolStorage") => Global::Storage(Element::Other(1)),
        _ if is_class(module, name) => return Ok(None),
        _ => {
            return Err(ReadError::Unsupported(format!(
                "this PyTorch file wants to use {}, so it holds more than a model that is known here and is not read; \
                 load it in Python where you trust it and write torch.save(model.state_dict(), \"weights.pt\")",
                shown(module, name)
            )));
        }
    };
    Ok(Some(known))
}

fn is_class(module: &str, name: &str) -> bool {
    let below = |prefix: &str| module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    module.len() + name.len() < MAX_CLASS_NAME
        && module.split('.').all(plain)
        && plain(name)
        && (MODULES.into_iter().any(below) || NAMES.contains(&(module, name)))
}

/// The name for a message, cut where it is too long to be one.
fn shown(module: &str, name: &str) -> String {
    let full = format!("{module}.{name}");
    match full.char_indices().nth(MAX_CLASS_NAME) {
        Some((end, _)) => format!("{}...", &full[..end]),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_models_are_names_and_all_else_is_refused() {
        for (module, name) in [
            ("torchxrayvision.models", "DenseNet"),
            ("torch.nn.modules.conv", "Conv2d"),
            ("torchvision.models.densenet", "_DenseLayer"),
            ("torch", "device"),
        ] {
            assert_eq!(lookup(module, name).expect("a class"), None, "{module}.{name}");
        }
        for (module, name) in [
            ("os", "system"),
            ("builtins", "eval"),
            ("__builtin__", "getattr"),
            ("torch.nn.modulesque", "Conv2d"),
            ("torch.nn.modules", "a.b"),
            ("torch.nn.modules..os", "system"),
            ("torch.nn", "functional"),
            ("torch.hub", "load"),
            ("torchxrayvision.modelsX", "DenseNet"),
            ("torch.nn.modules", ""),
            ("", ""),
        ] {
            let error = lookup(module, name).expect_err("refused").to_string();
            assert!(error.contains(&format!("{module}.{name}")) && error.contains("state_dict"), "{error}");
        }
        let long = "x".repeat(1_000_000);
        let error = lookup("torch.nn.modules", &long).expect_err("too long").to_string();
        assert!(error.len() < 1000, "{} bytes", error.len());
    }
}
