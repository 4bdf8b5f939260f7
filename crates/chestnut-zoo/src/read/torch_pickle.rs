//! A pickle reader that knows only dictionaries of tensors.
//!
//! A pickle is a program for a small stack machine that can call anything. This one knows only what a dictionary of
//! tensors needs: containers, numbers, texts, and a handful of names that stand for "a tensor of these values". Every
//! other name is refused by name; nothing is imported, called or executed. Values live in one list and refer to each
//! other by index, so that neither depth nor sharing can exhaust stack or memory.

use super::ReadError;
use super::floats::FloatKind;
use std::collections::BTreeMap;

/// Most values in a pickled index (a DenseNet201 needs about 20,000).
const MAX_VALUES: usize = 1 << 20;

/// Index into [`Machine::values`].
pub(super) type Id = usize;

/// What a pickle can hold here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// Storage key, its kind (`None`: not floating-point) and number of values.
    Storage(String, Option<FloatKind>, usize),
    /// Storage, offset, shape, strides.
    Tensor(Id, usize, Vec<usize>, Vec<usize>),
}

/// The only names a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Option<FloatKind>),
}

fn global(module: &str, name: &str) -> Result<Global, ReadError> {
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Global::RebuildParameter),
        ("torch", "Size") => Ok(Global::Size),
        ("torch", "FloatStorage") => Ok(Global::Storage(Some(FloatKind::F32))),
        ("torch", "DoubleStorage") => Ok(Global::Storage(Some(FloatKind::F64))),
        ("torch", "HalfStorage") => Ok(Global::Storage(Some(FloatKind::F16))),
        ("torch", "BFloat16Storage") => Ok(Global::Storage(Some(FloatKind::Bf16))),
        ("torch", "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage") => {
            Ok(Global::Storage(None))
        }
        _ => Err(ReadError::Unsupported(format!(
            "this PyTorch file wants to use {module}.{name}, so it holds more than tensors and is not read; load it in \
             Python where you trust it and write torch.save(model.state_dict(), \"weights.pt\")"
        ))),
    }
}

/// A pickle that contradicts itself.
pub(super) fn broken(what: impl Into<String>) -> ReadError {
    ReadError::Broken(format!("pickled index: {}", what.into()))
}

/// Bytes of the program, read front to back.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ReadError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or_else(|| broken("it ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, ReadError> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `width` bytes, at most 4.
    fn number(&mut self, width: usize) -> Result<usize, ReadError> {
        Ok(self.take(width)?.iter().rev().fold(0, |n, &b| (n << 8) | usize::from(b)))
    }

    fn text(&mut self, length: usize) -> Result<String, ReadError> {
        let bytes = self.take(length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| broken("a text is not UTF-8"))
    }

    fn line(&mut self) -> Result<String, ReadError> {
        let end = self.0.iter().position(|&b| b == b'\n').ok_or_else(|| broken("it ends too early"))?;
        let text = self.text(end)?;
        self.byte()?;
        Ok(text)
    }
}

/// The stack machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<usize, Id>,
    result: Id,
}

impl Machine {
    /// Runs a pickle to its end.
    pub(super) fn run(pickle: &[u8]) -> Result<Self, ReadError> {
        let mut machine = Self::default();
        let mut bytes = Bytes(pickle);
        loop {
            let op = bytes.byte()?;
            if op == b'.' {
                machine.result = machine.pop()?;
                return Ok(machine);
            }
            machine.step(op, &mut bytes)?;
        }
    }

    fn step(&mut self, op: u8, bytes: &mut Bytes) -> Result<(), ReadError> {
        match op {
            // Protocol number, frame length.
            0x80 | 0x95 => {
                bytes.take(if op == 0x80 { 1 } else { 8 })?;
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool)?,
            b'K' => self.push_int(bytes, 1)?,
            b'M' => self.push_int(bytes, 2)?,
            b'J' => {
                let number = bytes.number(4)? as u32;
                self.push(Value::Int(i64::from(number.cast_signed())))?;
            }
            0x8a => {
                let width = usize::from(bytes.byte()?);
                let digits = bytes.take(width)?;
                if width > 8 {
                    return Err(broken("a number is too long"));
                }
                let negative = digits.last().is_some_and(|b| b & 0x80 != 0);
                let start = if negative { -1_i64 } else { 0 };
                let number = digits.iter().rev().fold(start, |n, &b| (n << 8) | i64::from(b));
                self.push(Value::Int(number))?;
            }
            b'X' => {
                let length = bytes.number(4)?;
                let text = bytes.text(length)?;
                self.push(Value::Text(text))?;
            }
            0x8c => {
                let length = bytes.number(1)?;
                let text = bytes.text(length)?;
                self.push(Value::Text(text))?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(op - 0x84)).ok_or_else(underflow)?;
                let items = self.stack.split_off(start);
                self.push(Value::Tuple(items))?;
            }
            b'q' => self.memorise(bytes.number(1)?)?,
            b'r' => self.memorise(bytes.number(4)?)?,
            0x94 => self.memorise(self.memo.len())?,
            b'h' => self.recall(bytes.number(1)?)?,
            b'j' => self.recall(bytes.number(4)?)?,
            b'c' => {
                let (module, name) = (bytes.line()?, bytes.line()?);
                self.push(Value::Global(global(&module, &name)?))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err(broken("a name is not a text"));
                };
                let global = global(module, name)?;
                self.push(Value::Global(global))?;
            }
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            b's' | b'u' => {
                let items = if op == b's' {
                    let start = self.stack.len().checked_sub(2).ok_or_else(underflow)?;
                    self.stack.split_off(start)
                } else {
                    self.pop_mark()?
                };
                if items.len() % 2 != 0 {
                    return Err(broken("a name without a value is set"));
                }
                let top = self.top()?;
                let Value::Dict(pairs) = &mut self.values[top] else {
                    return Err(broken("items are set on something that is not a dictionary"));
                };
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            b'a' | b'e' => {
                let items = if op == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                let top = self.top()?;
                let Value::List(list) = &mut self.values[top] else {
                    return Err(broken("items are appended to something that is not a list"));
                };
                list.extend(items);
            }
            // Attributes of a dictionary (PyTorch's version numbers) are of no interest.
            b'b' => {
                self.pop()?;
                let top = self.top()?;
                if !matches!(self.values[top], Value::Dict(_)) {
                    return Err(broken("attributes are set on something that is not a dictionary"));
                }
            }
            other => {
                return Err(ReadError::Unsupported(format!(
                    "the PyTorch file uses the pickle instruction 0x{other:02x}, which no dictionary of tensors needs; \
                     write torch.save(model.state_dict(), \"weights.pt\")"
                )));
            }
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), ReadError> {
        super::within("the number of values in the pickled index", self.values.len() as u64 + 1, MAX_VALUES as u64)?;
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn push_int(&mut self, bytes: &mut Bytes, width: usize) -> Result<(), ReadError> {
        // At most two bytes, so it fits.
        let number = bytes.number(width)? as i64;
        self.push(Value::Int(number))
    }

    fn pop(&mut self) -> Result<Id, ReadError> {
        self.stack.pop().ok_or_else(underflow)
    }

    fn top(&self) -> Result<Id, ReadError> {
        self.stack.last().copied().ok_or_else(underflow)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, ReadError> {
        let mark = self.marks.pop().filter(|&m| m <= self.stack.len()).ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn memorise(&mut self, key: usize) -> Result<(), ReadError> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), ReadError> {
        let id = *self.memo.get(&key).ok_or_else(|| broken("it refers to a value that it never stored"))?;
        self.stack.push(id);
        Ok(())
    }

    fn tuple(&self, id: Id) -> Result<&[Id], ReadError> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            _ => Err(broken("arguments are not a tuple")),
        }
    }

    /// A persistent id: `("storage", kind, key, device, count)`.
    fn storage(&mut self) -> Result<(), ReadError> {
        let id = self.pop()?;
        let &[tag, kind, key, _, count] = self.tuple(id)? else {
            return Err(broken("a storage is not described by five values"));
        };
        let value = match (&self.values[tag], &self.values[kind], &self.values[key], &self.values[count]) {
            (Value::Text(tag), Value::Global(Global::Storage(kind)), Value::Text(key), Value::Int(count))
                if tag == "storage" && !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                let count = usize::try_from(*count).map_err(|_| broken("a storage has a negative length"))?;
                Value::Storage(key.clone(), *kind, count)
            }
            _ => return Err(broken("a storage is not described as PyTorch does")),
        };
        self.push(value)
    }

    /// A call, of the few things that may be called.
    fn reduce(&mut self) -> Result<(), ReadError> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = self.values[callee] else {
            return Err(broken("something is called that is not a name"));
        };
        let arguments = self.tuple(arguments)?;
        match (callee, arguments) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::Size, &[sizes]) | (Global::RebuildParameter, &[sizes, ..]) => {
                self.stack.push(sizes);
                Ok(())
            }
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                if !matches!(self.values[storage], Value::Storage(..)) {
                    return Err(broken("a tensor has no storage"));
                }
                let offset = self.size(offset)?;
                let shape = self.sizes(shape)?;
                let strides = self.sizes(strides)?;
                self.push(Value::Tensor(storage, offset, shape, strides))
            }
            _ => Err(broken("a call has the wrong arguments")),
        }
    }

    fn size(&self, id: Id) -> Result<usize, ReadError> {
        match self.values[id] {
            Value::Int(number) => usize::try_from(number).map_err(|_| broken("a size is negative")),
            _ => Err(broken("a size is not a number")),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, ReadError> {
        let items = self.tuple(id)?;
        super::within("the number of axes of a tensor", items.len() as u64, super::MAX_RANK as u64)?;
        items.iter().map(|&item| self.size(item)).collect()
    }

    /// Names and tensors of the dictionary, or of the one inside a checkpoint.
    pub(super) fn state_dict(&self) -> Result<Vec<(String, Id)>, ReadError> {
        let mut pairs = self.dict(self.result)?;
        for key in ["state_dict", "model_state_dict", "model"] {
            let inner = pairs.iter().find(|(k, _)| matches!(&self.values[*k], Value::Text(text) if text == key));
            if let Some(&(_, inner)) = inner
                && let Value::Dict(inner) = &self.values[inner]
            {
                pairs = inner;
                break;
            }
        }
        let mut tensors = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for &(key, value) in pairs {
            let Value::Text(name) = &self.values[key] else {
                return Err(ReadError::Unsupported("a key of the PyTorch dictionary is not a name".into()));
            };
            if !matches!(self.values[value], Value::Tensor(..)) {
                return Err(ReadError::Unsupported(format!("entry {name} of the PyTorch dictionary is not a tensor")));
            }
            if !seen.insert(name.as_str()) {
                return Err(ReadError::Duplicate(name.clone()));
            }
            tensors.push((name.clone(), value));
        }
        Ok(tensors)
    }

    fn dict(&self, id: Id) -> Result<&Vec<(Id, Id)>, ReadError> {
        match &self.values[id] {
            Value::Dict(pairs) => Ok(pairs),
            _ => Err(ReadError::Unsupported("the PyTorch file is not a dictionary of tensors".into())),
        }
    }
}

fn underflow() -> ReadError {
    broken("it takes more from the stack than was put there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_refused_by_name() {
        // cos.system with one text: what a malicious file would do.
        let pickle = b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.";
        let error = Machine::run(pickle).expect_err("refused").to_string();
        assert!(error.contains("os.system") && error.contains("state_dict"), "{error}");
    }

    #[test]
    fn every_truncation_and_underflow_is_an_error() {
        let pickle = b"\x80\x02ccollections\nOrderedDict\n)Rq\0(X\x01\0\0\0aNu.";
        let machine = Machine::run(pickle).expect("valid");
        assert!(machine.state_dict().expect_err("None is not a tensor").to_string().contains("entry a"));
        for length in 0..pickle.len() {
            assert!(Machine::run(&pickle[..length]).is_err(), "{length}");
        }
        for program in
            [&b"."[..], b"u.", b"R.", b"s.", b"t.", b"\x87.", b"h\x07.", b"Q.", b"b.", b"}(K\x01a.", b"\x93."]
        {
            assert!(Machine::run(program).is_err(), "{program:?}");
        }
    }

    #[test]
    fn depth_and_sharing_cost_nothing() {
        // 100,000 tuples inside each other.
        let mut pickle = b")".to_vec();
        pickle.extend(std::iter::repeat_n(0x85, 100_000));
        pickle.push(b'.');
        assert!(Machine::run(&pickle).expect("runs").state_dict().is_err());
    }
}
