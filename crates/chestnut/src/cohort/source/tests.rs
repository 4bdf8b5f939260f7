//! Archives made to do harm, archives made by careless programs, and discs that were copied half-way.

use std::fs;
use std::io::{Cursor, Write};

use chestnut_stats::random::Stream;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;

/// A zip of these members, deflated.
pub(crate) fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in members {
        writer.start_file(*name, options).expect("a member");
        writer.write_all(bytes).expect("its bytes");
    }
    writer.finish().expect("a zip").into_inner()
}

/// A tar of these members. Names are written as they are, whatever the library thinks of them.
pub(crate) fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if name.len() < 100 {
            header.as_gnu_mut().expect("a GNU header").name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).expect("a member");
        } else {
            builder.append_data(&mut header, name, *bytes).expect("a member");
        }
    }
    builder.into_inner().expect("a tar")
}

/// What is listed in a folder that holds one file: ids, and refused items with their reasons.
fn listed(name: &str, bytes: &[u8]) -> (Vec<String>, Vec<(String, String)>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join(name), bytes).expect("a file");
    let listing = list(folder.path(), &folder.path().join("labels.csv")).expect("a listing");
    let ids = listing.sources.iter().map(|s| s.id().to_owned()).collect();
    (ids, listing.rejects.into_iter().map(|r| (r.item, r.reason)).collect())
}

fn reason<'a>(rejects: &'a [(String, String)], item: &str) -> &'a str {
    let found = rejects.iter().find(|(name, _)| name == item);
    &found.unwrap_or_else(|| panic!("{item} is not refused: {rejects:?}")).1
}

#[test]
fn members_that_lead_elsewhere_or_hold_archives_are_refused() {
    let inner = zip_of(&[("a.png", b"x")]);
    let long = format!("{}/deep.png", "folder".repeat(30));
    let members: [(&str, &[u8]); 9] = [
        ("ok.png", b"picture"),
        ("../evil.png", b"x"),
        ("/absolute.png", b"x"),
        ("C:\\windows.png", b"x"),
        ("sub\\back.png", b"slash"),
        ("inner", &inner),
        (".hidden/a.png", b"x"),
        ("__MACOSX/a.png", b"x"),
        (&long, b"long"),
    ];
    for (name, archive) in [("export.zip", zip_of(&members)), ("export", tar_of(&members))] {
        let (ids, rejects) = listed(name, &archive);
        let mut expected = [format!("{name}/{long}"), format!("{name}/ok.png"), format!("{name}/sub/back.png")];
        expected.sort();
        assert_eq!(ids, expected, "{rejects:?}");
        assert_eq!(rejects.len(), 4, "{rejects:?}");
        assert!(reason(&rejects, &format!("{name}/../evil.png")).contains("leads out"));
        assert!(reason(&rejects, &format!("{name}//absolute.png")).contains("absolute"));
        assert!(reason(&rejects, &format!("{name}/C:\\windows.png")).contains("absolute"));
        assert!(reason(&rejects, &format!("{name}/inner")).contains("archive within an archive"));
    }
}

#[test]
fn bombs_do_not_go_off() {
    let zeros = vec![0_u8; 40 << 20];
    let bomb = zip_of(&[("bomb.png", &zeros), ("ok.png", b"picture")]);
    let (ids, rejects) = listed("bomb.zip", &bomb);
    assert_eq!(ids, ["bomb.zip/ok.png"]);
    assert!(reason(&rejects, "bomb.zip/bomb.png").contains("200 times"));

    // The same with a declared size that passes: reading stops there and says so.
    let entry = bomb.windows(4).position(|w| w == b"PK\x01\x02").expect("a central directory");
    let mut lie = bomb.clone();
    lie[entry + 24..entry + 28].copy_from_slice(&1000_u32.to_le_bytes());
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("lie.zip"), &lie).expect("a file");
    let error = open_source(folder.path(), "lie.zip/bomb.png").expect_err("a lie");
    assert!(matches!(error, SourceError::Archive { .. }), "{error}");
    assert!(error.to_string().contains("lie.zip"), "{error}");

    // Members that would need more bytes than the file has share them.
    let mut overlap = bomb;
    overlap[entry + 20..entry + 24].copy_from_slice(&0x7000_0000_u32.to_le_bytes());
    let (ids, rejects) = listed("overlap.zip", &overlap);
    assert!(ids.is_empty() && reason(&rejects, "overlap.zip").contains("over each other"), "{rejects:?}");
}

#[test]
fn other_archives_and_damaged_ones_are_refused_by_name() {
    let (ids, rejects) = listed("export.tgz", b"\x1f\x8b\x08 and so on");
    assert!(ids.is_empty() && reason(&rejects, "export.tgz").contains("gzip"), "{rejects:?}");
    let tar = tar_of(&[("a.png", &[7; 3000]), ("b.png", &[8; 3000])]);
    let (ids, rejects) = listed("cut.tar", &tar[..5000]);
    assert!(ids.is_empty() && reason(&rejects, "cut.tar").contains("cut off"), "{rejects:?}");
    let (ids, rejects) = listed("cut.zip", &zip_of(&[("a.png", b"x")])[..40]);
    assert!(ids.is_empty() && !reason(&rejects, "cut.zip").is_empty(), "{rejects:?}");
    // By content: a zip by any other name is one, and text called .zip is none.
    assert_eq!(listed("EXPORT", &zip_of(&[("a.png", b"x")])).0, ["EXPORT/a.png"]);
    assert_eq!(listed("text.zip", b"no archive").0, ["text.zip"]);
}

#[test]
fn damage_anywhere_is_an_error_and_never_a_panic() {
    let members: [(&str, &[u8]); 2] = [("a.png", &[1; 400]), ("sub/b", b"some text, some more text")];
    let mut stream = Stream::keyed(5, "damage");
    for archive in [zip_of(&members), tar_of(&members)] {
        for _ in 0..150 {
            let mut bytes = archive.clone();
            for _ in 0..3 {
                let at = stream.below(bytes.len());
                bytes[at] = stream.below(256) as u8;
            }
            let folder = tempfile::tempdir().expect("a temporary folder");
            fs::write(folder.path().join("export"), &bytes).expect("a file");
            let listing = list(folder.path(), Path::new("labels.csv")).expect("a listing");
            for source in listing.sources {
                let _ = source.read();
            }
        }
    }
}

#[test]
fn images_are_found_by_their_ids_and_nothing_outside_is() {
    let outer = tempfile::tempdir().expect("a temporary folder");
    let root = outer.path().join("images");
    fs::create_dir_all(root.join("sub")).expect("a folder");
    fs::write(outer.path().join("secret.png"), b"secret").expect("a file");
    fs::write(root.join("sub/plain.png"), b"plain").expect("a file");
    let members: [(&str, &[u8]); 2] = [("x/a.png", b"first"), ("b.png", b"")];
    fs::write(root.join("sub/export.zip"), zip_of(&members)).expect("a file");
    fs::write(root.join("export.tar"), tar_of(&members)).expect("a file");
    let listing = list(&root, Path::new("labels.csv")).expect("a listing");
    let sources = Sources::new(&root);
    assert_eq!(listing.sources.len(), 5);
    for source in &listing.sources {
        let (listed, found) = (source.read(), sources.read(source.id()));
        assert_eq!(listed.map_err(|e| e.to_string()), found.map_err(|e| e.to_string()), "{}", source.id());
    }
    assert_eq!(sources.read("sub/export.zip/x/a.png").expect("a member"), b"first");
    assert_eq!(open_source(&root.join("export.tar"), "x/a.png").expect("a member"), b"first");
    for bad in ["../secret.png", "/etc/hostname", "", "sub/../../secret.png"] {
        assert!(matches!(sources.read(bad), Err(SourceError::BadId)), "{bad}");
    }
    let gone = sources.read("export.tar/x/none.png").expect_err("no such member");
    assert!(matches!(gone, SourceError::NotInArchive { .. }) && gone.to_string().contains("export.tar"));
    let gone = sources.read("sub/none.png").expect_err("no such file");
    assert!(gone.to_string().contains("cannot be read"), "{gone}");
}

#[test]
fn a_dicomdir_is_no_image_and_tells_what_is_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("IMAGES")).expect("a folder");
    fs::write(folder.path().join("IMAGES/a1.DCM"), b"here").expect("a file");
    let mut dicomdir = vec![0_u8; 132];
    for (id, length) in [(b"IMAGES\\A1 ", 10_u16), (b"IMAGES\\B2 ", 10)] {
        dicomdir.extend_from_slice(b"\x04\0\0\x15CS");
        dicomdir.extend_from_slice(&length.to_le_bytes());
        dicomdir.extend_from_slice(id);
    }
    fs::write(folder.path().join("DICOMDIR"), &dicomdir).expect("a file");
    let listing = list(folder.path(), Path::new("labels.csv")).expect("a listing");
    assert_eq!(listing.sources.iter().map(ImageSource::id).collect::<Vec<_>>(), ["IMAGES/a1.DCM"]);
    assert!(listing.rejects.is_empty());
    let warnings = listing.warnings.join("\n");
    assert!(warnings.contains("DICOMDIR lists 2 files, and 1 of them are not there (IMAGES/B2)"), "{warnings}");
}

#[test]
fn the_labels_table_is_no_image_by_any_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).expect("a folder");
    for name in ["labels.csv", "sub/labels.csv", "film"] {
        fs::write(at(name), b"image,Pleura\n").expect("a file");
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(at("labels.csv"), at("link")).expect("a link");
    let listing = list(folder.path(), &at("labels.csv")).expect("a listing");
    let ids: Vec<&str> = listing.sources.iter().map(ImageSource::id).collect();
    // Another file of its name is whatever it holds.
    assert_eq!(ids, ["film", "sub/labels.csv"]);
}

#[test]
fn one_file_is_an_image_unless_it_is_an_archive() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let ids = |path: &Path| -> Vec<String> {
        list_any(path).expect("a listing").sources.iter().map(|s| s.id().to_owned()).collect()
    };
    let film = file("film", b"picture");
    assert_eq!(ids(&film), ["film"]);
    assert_eq!(list_any(&film).expect("a listing").sources[0].read().expect("its bytes"), b"picture");
    assert_eq!(ids(&file("export.zip", &zip_of(&[("a.png", b"picture"), ("b/c", b"other")]))), ["a.png", "b/c"]);
    assert_eq!(ids(folder.path()), ["export.zip/a.png", "export.zip/b/c", "film"]);
    assert!(list_any(&file("export.gz", b"\x1f\x8b\x08")).is_err());
    assert!(list_any(&folder.path().join("nothing")).is_err());
}
