//! A pickle reader that knows only dictionaries of tensors and saved models.
//!
//! A pickle is a program for a small stack machine that can call anything. This one knows only what tensors and models
//! need: containers, numbers, texts, and a handful of names ([`super::torch_globals`]). An object is its class's name and
//! its attributes; nothing is imported, called or executed, and names that are not expected are refused by name. Values
//! live in one list and refer to each other by index, so that neither depth nor sharing can exhaust stack or memory.

use super::ReadError;
use super::torch_globals::{Element, Global, lookup};
use std::collections::BTreeMap;

/// Most values in a pickled index, and most entries of its stack, its marks and its memory (a whole saved DenseNet201
/// needs about 100,000).
const MAX_VALUES: usize = 1 << 20;

/// Index into [`Machine::values`].
pub(super) type Id = usize;

/// What a pickle can hold here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(String),
    /// A number with a fraction, or bytes: nobody asks for them.
    Plain,
    Tuple(Vec<Id>),
    /// Also a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// The name of a class, with its module.
    Class(String),
    /// An object: its class, and its attributes if they were set.
    Record(Id, Option<Id>),
    /// Storage key, kind and number of values.
    Storage(String, Element, usize),
    /// Storage, offset, shape, strides.
    Tensor(Id, usize, Vec<usize>, Vec<usize>),
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
    /// What the pickle holds, once it has run.
    pub(super) result: Id,
}

impl Machine {
    /// Runs a pickle to its end.
    pub(super) fn run(pickle: &[u8]) -> Result<Self, ReadError> {
        Self::run_first(pickle).map(|(machine, _)| machine)
    }

    /// Runs the pickle at the start of `pickle`; also the number of bytes that it takes.
    pub(super) fn run_first(pickle: &[u8]) -> Result<(Self, usize), ReadError> {
        let mut machine = Self::default();
        let mut bytes = Bytes(pickle);
        loop {
            let op = bytes.byte()?;
            if op == b'.' {
                machine.result = machine.pop()?;
                return Ok((machine, pickle.len() - bytes.0.len()));
            }
            machine.step(op, &mut bytes)?;
            machine.check_size()?;
        }
    }

    /// Holds what one instruction makes longer by one; values are held to the same limit before they are made.
    fn check_size(&self) -> Result<(), ReadError> {
        for (what, found) in [
            ("the stack of the pickled index", self.stack.len()),
            ("the number of marks in the pickled index", self.marks.len()),
            ("the number of memorised values in the pickled index", self.memo.len()),
        ] {
            super::within(what, found as u64, MAX_VALUES as u64)?;
        }
        Ok(())
    }

    fn step(&mut self, op: u8, bytes: &mut Bytes) -> Result<(), ReadError> {
        match op {
            // Protocol number, frame length.
            0x80 | 0x95 => {
                bytes.take(if op == 0x80 { 1 } else { 8 })?;
            }
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Bool(op == 0x88))?,
            b'G' => {
                bytes.take(8)?;
                self.push(Value::Plain)?;
            }
            b'C' | b'B' => {
                let length = bytes.number(if op == b'C' { 1 } else { 4 })?;
                bytes.take(length)?;
                self.push(Value::Plain)?;
            }
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
            // Texts of Python 3 and of Python 2.
            b'X' | 0x8c | b'T' | b'U' => {
                let length = bytes.number(if matches!(op, b'X' | b'T') { 4 } else { 1 })?;
                let text = bytes.text(length)?;
                self.push(Value::Text(text))?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b']' | 0x8f => self.push(Value::List(Vec::new()))?,
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
                self.name(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (&self.values[module], &self.values[name]) else {
                    return Err(broken("a name is not a text"));
                };
                let (module, name) = (module.clone(), name.clone());
                self.name(&module, &name)?;
            }
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                if !matches!((&self.values[class], &self.values[arguments]), (Value::Class(_), Value::Tuple(_))) {
                    return Err(broken("an object is made of something that is not a class"));
                }
                self.push(Value::Record(class, None))?;
            }
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
            b'a' | b'e' | 0x90 => {
                let items = if op == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                let top = self.top()?;
                let Value::List(list) = &mut self.values[top] else {
                    return Err(broken("items are appended to something that is not a list"));
                };
                list.extend(items);
            }
            0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'b' => {
                let attributes = self.pop()?;
                let top = self.top()?;
                match &mut self.values[top] {
                    // PyTorch's version numbers.
                    Value::Dict(_) => {}
                    Value::Record(_, place) => *place = Some(attributes),
                    _ => return Err(broken("attributes are set on something that is not an object")),
                }
            }
            other => {
                return Err(ReadError::Unsupported(format!(
                    "the PyTorch file uses the pickle instruction 0x{other:02x}, which no dictionary of tensors and no \
                     model needs; write torch.save(model.state_dict(), \"weights.pt\")"
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

    fn name(&mut self, module: &str, name: &str) -> Result<(), ReadError> {
        let value = match lookup(module, name)? {
            Some(global) => Value::Global(global),
            None => Value::Class(format!("{module}.{name}")),
        };
        self.push(value)
    }

    /// A persistent id: `("storage", kind, key, device, count)`, in old files with a sixth value that is None, and there
    /// also `("module", class, file, source code)`, which is the class.
    fn persistent(&mut self) -> Result<(), ReadError> {
        let id = self.pop()?;
        let parts = self.tuple(id)?;
        if let &[tag, class, _, _] = parts
            && matches!((&self.values[tag], &self.values[class]), (Value::Text(t), Value::Class(_)) if t == "module")
        {
            self.stack.push(class);
            return Ok(());
        }
        let &[tag, kind, key, _, count, ref view @ ..] = parts else {
            return Err(broken("a storage is not described by five values"));
        };
        if !view.iter().all(|&part| matches!(self.values[part], Value::None)) {
            return Err(ReadError::Unsupported(
                "the PyTorch file has storages inside storages, as only very old versions wrote; load it in Python and \
                 write torch.save(model.state_dict(), \"weights.pt\")"
                    .into(),
            ));
        }
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

    /// A call, of the few things that may be called. Calling a class makes an object without attributes.
    fn reduce(&mut self) -> Result<(), ReadError> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let called = match self.values[callee] {
            Value::Global(global) => Some(global),
            Value::Class(_) => None,
            _ => return Err(broken("something is called that is not a name")),
        };
        let arguments = self.tuple(arguments)?;
        let Some(called) = called else { return self.push(Value::Record(callee, None)) };
        match (called, arguments) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::Set, []) => self.push(Value::List(Vec::new())),
            (Global::Set, &[items]) if matches!(self.values[items], Value::List(_)) => {
                self.stack.push(items);
                Ok(())
            }
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
}

fn underflow() -> ReadError {
    broken("it takes more from the stack than was put there")
}

#[cfg(test)]
mod tests;
