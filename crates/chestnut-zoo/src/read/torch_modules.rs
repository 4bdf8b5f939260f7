//! From what a pickle holds to names and tensors: a state dictionary, a checkpoint around one, or a whole saved model.
//!
//! `torch.save(model)` writes objects. Each module has its tensors in `_parameters` and `_buffers` and its parts in
//! `_modules`; names are put together as PyTorch's `state_dict` does. A file may claim modules inside themselves or the
//! same part a billion times over, so depth, names and steps are limited.

use super::torch_pickle::{Id, Machine, Value, broken};
use super::{MAX_TENSORS, ReadError, within};
use std::collections::BTreeSet;

/// Deepest module inside a module (a DenseNet has 4).
const MAX_MODULE_DEPTH: usize = 32;
/// Longest name of a tensor in a model, in bytes.
const MAX_TENSOR_NAME: usize = 512;
/// Most entries of dictionaries that are looked at (a DenseNet201 has about 30,000).
const MAX_STEPS: usize = 1 << 22;
/// Where a checkpoint keeps the model.
const CHECKPOINT_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The tensors of a file.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// Dotted name, and the tensor's place in [`Machine::values`].
    pub(super) tensors: Vec<(String, Id)>,
    /// Class of the model, if a whole one was saved.
    pub(super) class: Option<&'a str>,
}

/// Names and tensors of the dictionary or model, or of the one inside a checkpoint.
pub(super) fn tensors(machine: &Machine) -> Result<Found<'_>, ReadError> {
    let mut root = machine.result;
    if let Value::Dict(pairs) = &machine.values[root] {
        let inner = CHECKPOINT_KEYS.iter().find_map(|key| {
            entry(machine, pairs, key).filter(|&id| matches!(machine.values[id], Value::Dict(_) | Value::Record(..)))
        });
        root = inner.unwrap_or(root);
    }
    let mut walk = Walk { machine, tensors: Vec::new(), steps: 0 };
    let class = match &machine.values[root] {
        Value::Dict(pairs) => {
            walk.dictionary(pairs)?;
            None
        }
        Value::Record(class, _) => {
            walk.module(root, "", 0)?;
            match &machine.values[*class] {
                Value::Class(name) => Some(name.as_str()),
                _ => None,
            }
        }
        _ => {
            return Err(ReadError::Unsupported(
                "the PyTorch file holds neither a dictionary of tensors nor a model".into(),
            ));
        }
    };
    let mut seen = BTreeSet::new();
    for (name, _) in &walk.tensors {
        if !seen.insert(name.clone()) {
            return Err(ReadError::Duplicate(name.clone()));
        }
    }
    Ok(Found { tensors: walk.tensors, class })
}

/// The value under a name; the last one, as in Python.
fn entry(machine: &Machine, pairs: &[(Id, Id)], name: &str) -> Option<Id> {
    let named = |key: Id| matches!(&machine.values[key], Value::Text(text) if text == name);
    pairs.iter().rev().find(|(key, _)| named(*key)).map(|(_, value)| *value)
}

struct Walk<'a> {
    machine: &'a Machine,
    tensors: Vec<(String, Id)>,
    steps: usize,
}

impl<'a> Walk<'a> {
    fn dictionary(&mut self, pairs: &[(Id, Id)]) -> Result<(), ReadError> {
        for &(key, value) in pairs {
            let Value::Text(name) = &self.machine.values[key] else {
                return Err(ReadError::Unsupported("a key of the PyTorch dictionary is not a name".into()));
            };
            if !matches!(self.machine.values[value], Value::Tensor(..)) {
                return Err(ReadError::Unsupported(format!("entry {name} of the PyTorch dictionary is not a tensor")));
            }
            self.tensors.push((name.clone(), value));
        }
        Ok(())
    }

    fn module(&mut self, id: Id, name: &str, depth: usize) -> Result<(), ReadError> {
        within("the depth of modules inside modules", depth as u64, MAX_MODULE_DEPTH as u64)?;
        let attributes: &'a [(Id, Id)] = match self.machine.values[id] {
            Value::Record(_, Some(state)) => self.pairs(state)?,
            _ => &[],
        };
        self.spend(1 + attributes.len())?;
        let transient = self.transient(attributes)?;
        for field in ["_parameters", "_buffers"] {
            for &(key, value) in self.members(attributes, field)? {
                if transient.contains(self.text(key)?) {
                    continue;
                }
                let full = self.join(name, key)?;
                match self.machine.values[value] {
                    // A layer without bias, for example.
                    Value::None => {}
                    Value::Tensor(..) => {
                        within("the number of tensors", self.tensors.len() as u64 + 1, MAX_TENSORS as u64)?;
                        self.tensors.push((full, value));
                    }
                    _ => return Err(ReadError::Unsupported(format!("{full} of the saved model is not a tensor"))),
                }
            }
        }
        for &(key, value) in self.members(attributes, "_modules")? {
            let full = self.join(name, key)?;
            match self.machine.values[value] {
                Value::None => {}
                Value::Record(..) => self.module(value, &full, depth + 1)?,
                _ => return Err(ReadError::Unsupported(format!("{full} of the saved model is not a module"))),
            }
        }
        Ok(())
    }

    /// Counts entries that are looked at.
    fn spend(&mut self, entries: usize) -> Result<(), ReadError> {
        self.steps += entries;
        within("the number of parts of the saved model", self.steps as u64, MAX_STEPS as u64).map(|_| ())
    }

    fn pairs(&self, id: Id) -> Result<&'a [(Id, Id)], ReadError> {
        match &self.machine.values[id] {
            Value::Dict(pairs) => Ok(pairs),
            _ => Err(broken("the attributes of an object are not a dictionary")),
        }
    }

    /// The entries of a dictionary among a module's attributes; none if it has no such attribute.
    fn members(&mut self, attributes: &[(Id, Id)], field: &str) -> Result<&'a [(Id, Id)], ReadError> {
        let Some(id) = entry(self.machine, attributes, field) else { return Ok(&[]) };
        let members = self.pairs(id)?;
        self.spend(members.len())?;
        Ok(members)
    }

    /// Names of buffers that `state_dict` leaves out.
    fn transient(&mut self, attributes: &[(Id, Id)]) -> Result<BTreeSet<&'a str>, ReadError> {
        let machine = self.machine;
        let Some(set) = entry(machine, attributes, "_non_persistent_buffers_set") else { return Ok(BTreeSet::new()) };
        let Value::List(names) = &machine.values[set] else { return Ok(BTreeSet::new()) };
        self.spend(names.len())?;
        names.iter().map(|&name| self.text(name)).collect()
    }

    fn text(&self, id: Id) -> Result<&'a str, ReadError> {
        match &self.machine.values[id] {
            Value::Text(text) => Ok(text),
            _ => Err(broken("the name of a part of a module is not a text")),
        }
    }

    /// `name.key`, or `key` at the top.
    fn join(&self, name: &str, key: Id) -> Result<String, ReadError> {
        let key = self.text(key)?;
        let length = name.len() + 1 + key.len();
        within("the length of a tensor's name", length as u64, MAX_TENSOR_NAME as u64)?;
        Ok(if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that makes one module with these entries of `_modules`: `(name, memo of the part)`, and keeps it as
    /// `memo`.
    fn module(memo: u8, parts: &[(&str, u8)]) -> Vec<u8> {
        let mut out = b"ctorch.nn.modules.container\nSequential\n)\x81}U\x08_modules}(".to_vec();
        for (name, part) in parts {
            out.push(b'U');
            out.push(name.len() as u8);
            out.extend(name.bytes());
            out.extend([b'h', *part]);
        }
        out.extend(b"usb");
        out.extend([b'q', memo]);
        out
    }

    fn found(program: &[u8]) -> Result<usize, String> {
        let machine = Machine::run(program).map_err(|e| e.to_string())?;
        tensors(&machine).map(|f| f.tensors.len()).map_err(|e| e.to_string())
    }

    #[test]
    fn modules_inside_themselves_end() {
        // The module is kept before its attributes are set, and then is its own part.
        let program = b"ctorch.nn.modules.container\nSequential\n)\x81q\x00}U\x08_modules}U\x01ah\x00ssb.";
        assert!(found(program).expect_err("endless").contains("depth of modules"));
        // A dictionary inside itself is no module.
        assert!(found(b"}q\x00U\x01ah\x00s.").expect_err("not a tensor").contains("entry a"));
    }

    #[test]
    fn sharing_cannot_multiply_work() {
        // 30 modules, each with the one before it as eight parts: 8^29 paths.
        let mut program = module(0, &[]);
        for memo in 1..30 {
            let parts = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|name| (name, memo - 1));
            program.extend(module(memo, &parts));
        }
        program.push(b'.');
        assert!(found(&program).expect_err("too much").contains("number of parts"));
        // Long names cannot be put together either.
        let long = "n".repeat(255);
        let mut program = module(0, &[]);
        for memo in 1..10 {
            program.extend(module(memo, &[(long.as_str(), memo - 1)]));
        }
        program.push(b'.');
        assert!(found(&program).expect_err("too long").contains("length of a tensor's name"));
    }

    #[test]
    fn parts_that_are_none_are_absent_and_others_refused() {
        let object = |field: &str, value: &str| {
            let mut out = b"ctorch.nn.modules.linear\nLinear\n)\x81}U".to_vec();
            out.push(field.len() as u8);
            out.extend(field.bytes());
            out.extend(b"}U\x04bias");
            out.extend(value.bytes());
            out.extend(b"ssb.");
            out
        };
        for field in ["_parameters", "_buffers", "_modules"] {
            assert_eq!(found(&object(field, "N")), Ok(0), "{field}");
            assert!(found(&object(field, "K\x01")).expect_err("a number").contains("bias of the saved model"));
        }
        assert_eq!(found(&object("_anything", "K\x01")), Ok(0), "other attributes are of no interest");
        // Attributes that are no dictionary, and a class by itself.
        assert!(found(b"ctorch.nn.modules.linear\nLinear\n)\x81K\x01b.").is_err());
        assert!(found(b"ctorch.nn.modules.linear\nLinear\n.").is_err());
    }
}
