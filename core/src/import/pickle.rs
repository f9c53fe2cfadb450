//! Reads the tensors of a PyTorch checkpoint (`.pth`, the ZIP form that PyTorch has written since 1.6).
//!
//! A pickle is a program for a small stack machine that may import and call anything. This machine knows the few
//! instructions that a state dict consists of and three callables, which it imitates; whatever else a file asks for is
//! an error. So nothing that a file carries is ever run.

use std::collections::HashMap;
use std::io::{Read, Seek};

use super::tensors::{Float, SourceTensor};

/// Tensors by name, and names of those that hold no floating-point numbers.
pub(super) type Tensors = (Vec<(String, SourceTensor)>, Vec<String>);

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Nothing,
    Number(i64),
    Text(String),
    Sequence(Vec<Value>),
    Dictionary(Vec<(Value, Value)>),
    /// Something that could be imported: module and name.
    Global(String, String),
    Storage {
        kind: String,
        key: String,
    },
    Tensor(View),
    /// Numbers and objects that do not matter here.
    Other,
}

/// A tensor as a view of a storage.
#[derive(Debug, Clone, PartialEq)]
struct View {
    kind: String,
    key: String,
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// Largest pickle that is looked at: that of MatAnyone 2 has 100 KB.
const LARGEST_PICKLE: u64 = 4 << 20;
/// How deeply values may lie in each other: a checkpoint has a few levels, and values are walked and dropped by recursion.
const DEEPEST: usize = 32;
/// How many values may be copied out of each other, as `LARGEST_PICKLE` bounds those that are written down: what is remembered and
/// recalled again and again doubles each time.
const MOST_COPIES: usize = 1 << 20;

impl Value {
    fn inner(&self) -> impl Iterator<Item = &Value> {
        let (values, items): (&[Value], &[(Value, Value)]) = match self {
            Value::Sequence(values) => (values, &[]),
            Value::Dictionary(items) => (&[], items),
            _ => (&[], &[]),
        };
        values.iter().chain(items.iter().flat_map(|(k, v)| [k, v]))
    }

    fn is_within(&self, levels: usize) -> bool {
        levels > 0 && self.inner().all(|value| value.is_within(levels - 1))
    }

    /// Itself and all that lies in it.
    fn count(&self) -> usize {
        1 + self.inner().map(Value::count).sum::<usize>()
    }

    /// A copy, as far as there have not been too many.
    fn copy(&self, copies: &mut usize) -> Result<Self, String> {
        *copies += self.count();
        if *copies > MOST_COPIES {
            return Err(format!("it repeats itself more than {MOST_COPIES} times"));
        }
        Ok(self.clone())
    }
}

/// `values`, if none of them lies too deep.
fn within_reach(values: Vec<Value>) -> Result<Vec<Value>, String> {
    // One level is left for what they are put into.
    if values.iter().all(|value| value.is_within(DEEPEST - 1)) {
        Ok(values)
    } else {
        Err(format!("more than {DEEPEST} levels of lists in lists"))
    }
}

struct Machine<'a> {
    code: &'a [u8],
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    copies: usize,
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self
            .code
            .split_at_checked(n)
            .ok_or("the pickle ends too early")?;
        self.code = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, String> {
        let b = self.take(4)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn text(&mut self, n: usize) -> Result<Value, String> {
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes)
            .map(Value::Text)
            .map_err(|_| "a name that is not UTF-8".to_owned())
    }

    fn line(&mut self) -> Result<String, String> {
        let n = self
            .code
            .iter()
            .position(|b| *b == b'\n')
            .ok_or("the pickle ends too early")?;
        let line = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack
            .pop()
            .ok_or_else(|| "the pickle takes more than it has put down".to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self
            .marks
            .pop()
            .filter(|m| *m <= self.stack.len())
            .ok_or("a mark is missing")?;
        within_reach(self.stack.split_off(mark))
    }

    fn last(&mut self, n: usize) -> Result<Vec<Value>, String> {
        let at = self
            .stack
            .len()
            .checked_sub(n)
            .ok_or("the pickle takes more than it has put down")?;
        within_reach(self.stack.split_off(at))
    }

    fn add_items(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(Value::Dictionary(all)) = self.stack.last_mut() else {
            return Err("items are set on something that is no dictionary".to_owned());
        };
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            all.push((key, value));
        }
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last_mut() {
            Some(Value::Sequence(all)) => {
                all.extend(items);
                Ok(())
            }
            _ => Err("items are appended to something that is no list".to_owned()),
        }
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        if let Some(top) = self.stack.last() {
            let copy = top.copy(&mut self.copies)?;
            self.memo.insert(slot, copy);
        }
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value = self
            .memo
            .get(&slot)
            .ok_or("the pickle recalls what it has not remembered")?;
        self.stack.push(value.copy(&mut self.copies)?);
        Ok(())
    }

    /// Imitates a call.
    fn call(&mut self) -> Result<Value, String> {
        let Value::Sequence(arguments) = self.pop()? else {
            return Err("a call without a tuple of arguments".to_owned());
        };
        let Value::Global(module, name) = self.pop()? else {
            return Err("a call of something that is no function".to_owned());
        };
        match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") => Ok(Value::Dictionary(Vec::new())),
            ("torch._utils", "_rebuild_parameter") => {
                Ok(arguments.into_iter().next().unwrap_or(Value::Nothing))
            }
            ("torch._utils", "_rebuild_tensor_v2") => view(&arguments).map(Value::Tensor),
            _ => Err(format!(
                "it asks to call {module}.{name}, which a state dict does not need; nothing was called"
            )),
        }
    }

    fn run(mut self) -> Result<Value, String> {
        loop {
            let value = match self.byte()? {
                0x80 => {
                    self.byte()?;
                    continue;
                }
                0x95 => {
                    self.take(8)?;
                    continue;
                }
                b'(' => {
                    self.marks.push(self.stack.len());
                    continue;
                }
                b'q' => {
                    let slot = self.byte()?;
                    self.remember(u32::from(slot))?;
                    continue;
                }
                b'r' => {
                    let slot = self.u32()?;
                    self.remember(slot)?;
                    continue;
                }
                0x94 => {
                    self.remember(self.memo.len() as u32)?;
                    continue;
                }
                b'h' => {
                    let slot = self.byte()?;
                    self.recall(u32::from(slot))?;
                    continue;
                }
                b'j' => {
                    let slot = self.u32()?;
                    self.recall(slot)?;
                    continue;
                }
                b's' => {
                    let items = self.last(2)?;
                    self.add_items(items)?;
                    continue;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.add_items(items)?;
                    continue;
                }
                b'a' => {
                    let item = self.last(1)?;
                    self.append(item)?;
                    continue;
                }
                b'e' => {
                    let items = self.since_mark()?;
                    self.append(items)?;
                    continue;
                }
                // Attributes of an object, and what is thrown away.
                b'b' | b'0' => {
                    self.pop()?;
                    continue;
                }
                b'.' => return self.pop(),
                b'}' => Value::Dictionary(Vec::new()),
                b']' | b')' => Value::Sequence(Vec::new()),
                b'N' => Value::Nothing,
                0x88 => Value::Number(1),
                0x89 => Value::Number(0),
                b'K' => Value::Number(i64::from(self.byte()?)),
                b'M' => {
                    let b = self.take(2)?;
                    Value::Number(i64::from(u16::from_le_bytes([b[0], b[1]])))
                }
                b'J' => Value::Number(i64::from(self.u32()?.cast_signed())),
                0x8a => {
                    let n = usize::from(self.byte()?);
                    let bytes = self.take(n)?;
                    if n > 8 {
                        Value::Other
                    } else {
                        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) {
                            0xff
                        } else {
                            0
                        };
                        let mut wide = [sign; 8];
                        wide[..n].copy_from_slice(bytes);
                        Value::Number(i64::from_le_bytes(wide))
                    }
                }
                b'G' => {
                    self.take(8)?;
                    Value::Other
                }
                b'X' => {
                    let n = self.u32()? as usize;
                    self.text(n)?
                }
                0x8c => {
                    let n = usize::from(self.byte()?);
                    self.text(n)?
                }
                b'c' => Value::Global(self.line()?, self.line()?),
                0x93 => match (self.last(2)?.as_slice(), ()) {
                    ([Value::Text(module), Value::Text(name)], ()) => {
                        Value::Global(module.clone(), name.clone())
                    }
                    _ => return Err("an import without a name".to_owned()),
                },
                b't' => Value::Sequence(self.since_mark()?),
                n @ 0x85..=0x87 => Value::Sequence(self.last(usize::from(n) - 0x84)?),
                b'Q' => storage(self.pop()?)?,
                b'R' => self.call()?,
                other => {
                    return Err(format!(
                        "instruction {other:#04x}, which a state dict does not need; nothing was run"
                    ));
                }
            };
            self.stack.push(value);
        }
    }
}

fn storage(id: Value) -> Result<Value, String> {
    if let Value::Sequence(parts) = id
        && let [
            Value::Text(what),
            Value::Global(_, kind),
            Value::Text(key),
            ..,
        ] = parts.as_slice()
        && what == "storage"
    {
        return Ok(Value::Storage {
            kind: kind.clone(),
            key: key.clone(),
        });
    }
    Err("a reference that is no storage".to_owned())
}

fn sizes(value: &Value) -> Option<Vec<usize>> {
    let Value::Sequence(all) = value else {
        return None;
    };
    all.iter()
        .map(|v| {
            if let Value::Number(n) = v {
                usize::try_from(*n).ok()
            } else {
                None
            }
        })
        .collect()
}

fn view(arguments: &[Value]) -> Result<View, String> {
    if let [
        Value::Storage { kind, key },
        Value::Number(offset),
        shape,
        stride,
        ..,
    ] = arguments
        && let (Ok(offset), Some(shape), Some(stride)) =
            (usize::try_from(*offset), sizes(shape), sizes(stride))
        && shape.len() == stride.len()
    {
        return Ok(View {
            kind: kind.clone(),
            key: key.clone(),
            offset,
            shape,
            stride,
        });
    }
    Err("a tensor whose storage, shape or stride is missing".to_owned())
}

/// The dictionary of names to tensors: the object itself, or one that it holds under a name such as `state_dict`, the largest:
/// checkpoints of a training hold single tensors as well, and what an optimizer keeps.
fn state_dict(value: Value, depth: usize) -> Option<Vec<(String, View)>> {
    let Value::Dictionary(items) = value else {
        return None;
    };
    let tensors: Vec<(String, View)> = items
        .iter()
        .filter_map(|(key, value)| match (key, value) {
            (Value::Text(name), Value::Tensor(view)) => Some((name.clone(), view.clone())),
            _ => None,
        })
        .collect();
    let mut found = (!tensors.is_empty()).then_some(tensors);
    // A level more than any checkpoint has.
    if depth < 4 {
        for (_, value) in items {
            let inner = state_dict(value, depth + 1);
            let count = |tensors: &Option<Vec<_>>| tensors.as_ref().map_or(0, Vec::len);
            if count(&inner) > count(&found) {
                found = inner;
            }
        }
    }
    found
}

fn read_view(view: &View, numbers: &[f32]) -> Option<SourceTensor> {
    let count = view
        .shape
        .iter()
        .try_fold(1usize, |n, d| n.checked_mul(*d))?;
    // In a weight every element of the storage is one of the tensor's at most once.
    if count > numbers.len() {
        return None;
    }
    let mut index = vec![0usize; view.shape.len()];
    let mut data = Vec::with_capacity(count);
    for _ in 0..count {
        let at = index
            .iter()
            .zip(&view.stride)
            .try_fold(view.offset, |at, (i, s)| at.checked_add(i.checked_mul(*s)?))?;
        data.push(*numbers.get(at)?);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < view.shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Some(SourceTensor {
        shape: view.shape.clone(),
        data,
    })
}

/// The files in a checkpoint.
struct Archive<F> {
    zip: zip::ZipArchive<F>,
    /// What may still be read: no two files share bytes, so all of them are no larger than the archive.
    left: u64,
}

impl<F: Read + Seek> Archive<F> {
    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("{name}: {e}");
        let entry = self.zip.by_name(name).map_err(|e| wrong(&e))?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(wrong(&"is compressed, which PyTorch does not do"));
        }
        let size = entry.size();
        if size > limit {
            return Err(wrong(&format!("{size} bytes, more than {limit}")));
        }
        self.left = (self.left.checked_sub(size))
            .ok_or_else(|| wrong(&"with what was read before it has more bytes than the file"))?;
        let mut bytes = Vec::new();
        entry
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|e| wrong(&e))?;
        Ok(bytes)
    }
}

/// Reads a checkpoint; the error tells what is wrong with it. What it takes of memory is in proportion to the file.
pub(super) fn read(mut file: impl Read + Seek) -> Result<Tensors, String> {
    let size = (file.seek(std::io::SeekFrom::End(0))).map_err(|e| e.to_string())?;
    let zip = zip::ZipArchive::new(file).map_err(|e| format!("not a PyTorch checkpoint: {e}"))?;
    let pickle = zip
        .file_names()
        .filter_map(Result::ok)
        .find(|n| n.ends_with("/data.pkl"))
        .map(std::borrow::Cow::into_owned)
        .ok_or("not a PyTorch checkpoint: no data.pkl in it")?;
    let folder = pickle.trim_end_matches("data.pkl").to_owned();
    let mut archive = Archive { zip, left: size };
    let code = archive.read(&pickle, LARGEST_PICKLE)?;
    let root = Machine {
        code: &code,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copies: 0,
    }
    .run()?;
    let views = state_dict(root, 0).ok_or("no dictionary of tensors in it")?;
    let mut storages: HashMap<String, (Float, Vec<f32>)> = HashMap::new();
    let (mut tensors, mut others) = (Vec::new(), Vec::new());
    // Weights that share a storage are few; without a limit a thousand names could be views of one that fills the file.
    let mut most = size;
    for (name, view) in views {
        let float = match view.kind.as_str() {
            "HalfStorage" => Float::F16,
            "BFloat16Storage" => Float::BF16,
            "FloatStorage" => Float::F32,
            "DoubleStorage" => Float::F64,
            _ => {
                others.push(name);
                continue;
            }
        };
        if !storages.contains_key(&view.key) {
            let bytes = archive.read(&format!("{folder}data/{}", view.key), u64::MAX)?;
            storages.insert(view.key.clone(), (float, float.decode(&bytes)));
        }
        let (stored, numbers) = &storages[&view.key];
        if *stored != float {
            return Err(format!(
                "tensor `{name}` has another type than others of its storage"
            ));
        }
        let tensor = read_view(&view, numbers)
            .ok_or_else(|| format!("tensor `{name}` reaches outside its storage"))?;
        most = (most.checked_sub(tensor.data.len() as u64))
            .ok_or("its tensors have more numbers than the file has bytes")?;
        tensors.push((name, tensor));
    }
    Ok((tensors, others))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "numbers are read, not computed")]

    use super::*;
    use std::io::{Cursor, Write as _};

    /// `torch.save({'state_dict': OrderedDict(a=…, b=…, c=…, n=…), 'epoch': 3}, …)` of PyTorch 2.7:
    /// a = arange(6).reshape(2, 3), b = a.t() (the same storage), c = half [1.5, −2], n = int64 7.
    const SAVED: &[u8] = include_bytes!("../../tests/data/saved.pth");

    #[test]
    fn tensors_of_a_saved_state_dict_come_out() {
        let (tensors, others) = read(Cursor::new(SAVED)).unwrap();
        let all: HashMap<_, _> = tensors.into_iter().collect();
        assert_eq!(
            all["a"],
            SourceTensor {
                shape: vec![2, 3],
                data: vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
            }
        );
        assert_eq!(
            all["b"],
            SourceTensor {
                shape: vec![3, 2],
                data: vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
            }
        );
        assert_eq!(
            all["c"],
            SourceTensor {
                shape: vec![2],
                data: vec![1.5, -2.0]
            }
        );
        assert_eq!((all.len(), others), (3, vec!["n".to_owned()]));
    }

    #[test]
    fn the_weights_are_found_beside_single_tensors_and_what_an_optimizer_keeps() {
        let tensor = || {
            Value::Tensor(View {
                kind: "FloatStorage".to_owned(),
                key: "0".to_owned(),
                offset: 0,
                shape: vec![1],
                stride: vec![1],
            })
        };
        let text = |name: &str| Value::Text(name.to_owned());
        let moments = Value::Dictionary(vec![(text("exp_avg"), tensor())]);
        let weights = Value::Dictionary(vec![(text("a"), tensor()), (text("b"), tensor())]);
        let saved = Value::Dictionary(vec![
            (text("epoch"), tensor()),
            (text("optimizer"), moments),
            (text("state_dict"), weights),
        ]);
        let names: Vec<String> = (state_dict(saved, 0).unwrap().into_iter())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    fn archive_of(files: &[(&str, &[u8])], how: zip::CompressionMethod) -> Cursor<Vec<u8>> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(how);
        for (name, bytes) in files {
            zip.start_file(format!("archive/{name}"), options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        Cursor::new(zip.finish().unwrap().into_inner())
    }

    fn archive(pickle: &[u8]) -> Cursor<Vec<u8>> {
        archive_of(&[("data.pkl", pickle)], zip::CompressionMethod::Stored)
    }

    /// A state dict of so many tensors, all of the same first numbers of one storage.
    fn sharing(tensors: usize, kind: &str, numbers: u8) -> Vec<u8> {
        let text = |t: &str| {
            [
                b"X".as_slice(),
                &(t.len() as u32).to_le_bytes(),
                t.as_bytes(),
            ]
            .concat()
        };
        let mut code = b"\x80\x02}(".to_vec();
        for n in 0..tensors {
            code.extend(text(&format!("t{n}")));
            code.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            code.extend(
                [
                    text("storage"),
                    format!("ctorch\n{kind}\n").into_bytes(),
                    text("0"),
                ]
                .concat(),
            );
            code.extend(b"tQK\x00K");
            code.push(numbers);
            code.extend(b"\x85K\x01\x85tR");
        }
        code.extend(b"u.");
        code
    }

    #[test]
    fn double_precision_is_read() {
        let numbers: Vec<u8> = (0..100).flat_map(|n| f64::from(n).to_le_bytes()).collect();
        let pickle = sharing(2, "DoubleStorage", 100);
        let files = [("data.pkl", pickle.as_slice()), ("data/0", &numbers)];
        let (tensors, _) = read(archive_of(&files, zip::CompressionMethod::Stored)).unwrap();
        assert_eq!(tensors.len(), 2);
        assert_eq!(tensors[1].1.data[99], 99.0);
    }

    #[test]
    fn a_small_file_does_not_fill_the_memory() {
        // Each level holds what came before twice.
        let doubling: Vec<u8> = (0..60).flat_map(|_| *b"q\x00h\x00\x86").collect();
        let doubles = [b"\x80\x02)".as_slice(), &doubling, b"."].concat();
        let error = read(archive(&doubles)).unwrap_err();
        assert!(error.contains("repeats itself"), "{error}");
        let nested = [b"\x80\x02)".as_slice(), &vec![0x85; 1 << 20], b"."].concat();
        let error = read(archive(&nested)).unwrap_err();
        assert!(error.contains("levels"), "{error}");

        let storage = [0; 800];
        let shared = |numbers: u8, how| {
            let pickle = sharing(500, "FloatStorage", numbers);
            read(archive_of(
                &[("data.pkl", &pickle), ("data/0", &storage)],
                how,
            ))
        };
        let stored = zip::CompressionMethod::Stored;
        assert_eq!(shared(20, stored).unwrap().0.len(), 500);
        let error = shared(200, stored).unwrap_err();
        assert!(error.contains("more numbers than"), "{error}");
        let error = shared(20, zip::CompressionMethod::Deflated).unwrap_err();
        assert!(error.contains("is compressed"), "{error}");
    }

    #[test]
    fn what_a_state_dict_does_not_need_is_refused() {
        // cos\nsystem\n(X…tR. is how a pickle runs a command.
        let evil = b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00true\x85R.";
        let error = read(archive(evil)).unwrap_err();
        assert_eq!(
            error,
            "it asks to call os.system, which a state dict does not need; nothing was called"
        );
        let error = read(archive(b"\x80\x02i")).unwrap_err();
        assert_eq!(
            error,
            "instruction 0x69, which a state dict does not need; nothing was run"
        );
    }

    #[test]
    fn broken_files_are_errors_and_nothing_else() {
        assert!(read(Cursor::new(b"PK\x03\x04 cut".to_vec())).is_err());
        assert_eq!(
            read(archive(b"\x80\x02}X\xff\xff\xff\xff")).unwrap_err(),
            "the pickle ends too early"
        );
        for n in 0..SAVED.len() {
            let _ = read(Cursor::new(&SAVED[..n]));
        }
        // A changed byte would fail the archive's checksum, so the pickle is put into a new one.
        let mut zip = zip::ZipArchive::new(Cursor::new(SAVED)).unwrap();
        let mut pickle = Vec::new();
        let mut entry = zip.by_name("saved/data.pkl").unwrap();
        entry.read_to_end(&mut pickle).unwrap();
        for at in 0..pickle.len() {
            for other in [0, 1, 0x7f, 0xff, b'.', b'u', b'R', b'h'] {
                let mut changed = pickle.clone();
                changed[at] = other;
                let _ = read(archive(&changed));
            }
        }
    }
}
