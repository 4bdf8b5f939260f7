//! Tests of the pickle machine: what it refuses, and what must not grow.

use super::super::torch_modules::tensors;
use super::*;

#[test]
fn other_names_are_refused_by_name() {
    // cos.system with one text: what a malicious file would do.
    let pickle = b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.";
    let error = Machine::run(pickle).expect_err("refused").to_string();
    assert!(error.contains("os.system") && error.contains("state_dict"), "{error}");
    // The same hidden in a model's attributes, as a class to be made, by its name from the stack, and in a sub-module.
    for program in [
        &b"ctorch.nn.modules.linear\nLinear\n)\x81}U\x01acos\nsystem\nU\x02id\x85Rsb."[..],
        b"cos\nsystem\n)\x81.",
        b"\x8c\x02os\x8c\x06system\x93)R.",
        b"(U\x06modulecos\nsystem\nNNtQ.",
    ] {
        assert!(Machine::run(program).expect_err("refused").to_string().contains("os.system"));
    }
}

#[test]
fn what_is_no_name_is_not_called() {
    // A text, a number, an object, a dictionary, a tensor's storage; and a storage as a class.
    for program in [
        &b"U\x06systemU\x02id\x85R."[..],
        b"K\x01)R.",
        b"ctorch.nn.modules.linear\nLinear\n)\x81)R.",
        b"})R.",
        b"ctorch\nFloatStorage\n)R.",
        b"ctorch\nFloatStorage\n)\x81.",
        b"U\x04nameK\x01\x81.",
        b"ctorch.nn.modules.linear\nLinear\nK\x01R.",
        b"ctorch.nn.modules.linear\nLinear\nNb.",
        b"c__builtin__\nset\nK\x01\x85R.",
    ] {
        assert!(matches!(Machine::run(program), Err(ReadError::Broken(_))), "{program:?}");
    }
}

#[test]
fn every_truncation_and_underflow_is_an_error() {
    let pickle = b"\x80\x02ccollections\nOrderedDict\n)Rq\0(X\x01\0\0\0aNu.";
    let machine = Machine::run(pickle).expect("valid");
    assert!(tensors(&machine).expect_err("None is not a tensor").to_string().contains("entry a"));
    for length in 0..pickle.len() {
        assert!(Machine::run(&pickle[..length]).is_err(), "{length}");
    }
    for program in [&b"."[..], b"u.", b"R.", b"s.", b"t.", b"\x87.", b"h\x07.", b"Q.", b"b.", b"}(K\x01a.", b"\x93."] {
        assert!(Machine::run(program).is_err(), "{program:?}");
    }
}

#[test]
fn nothing_grows_without_limit() {
    let repeated = |start: &[u8], again: &[u8]| [start, &again.repeat(MAX_VALUES + 1)[..], &b"."[..]].concat();
    for (program, what) in [
        (repeated(b"", b"N"), "number of values"),
        (repeated(b")", b"("), "marks"),
        (repeated(b")", b"\x94"), "memorised"),
        (repeated(b")q\0", b"h\0"), "stack"),
    ] {
        match Machine::run(&program) {
            Err(ReadError::TooLarge { what: found, .. }) => assert!(found.contains(what), "{found}"),
            other => panic!("{what}: {:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn depth_and_sharing_cost_nothing() {
    // 100,000 tuples inside each other.
    let mut pickle = b")".to_vec();
    pickle.extend(std::iter::repeat_n(0x85, 100_000));
    pickle.push(b'.');
    assert!(tensors(&Machine::run(&pickle).expect("runs")).is_err());
}
