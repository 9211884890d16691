//! What is recorded can be read back, whole and in part.

use super::*;

fn figure(backend: &str, round: Option<u32>, value: u64) -> Entry {
    Entry::Figure(Figure {
        instrument: "native".to_owned(),
        backend: backend.to_owned(),
        layout: "default".to_owned(),
        services: 10,
        endpoints: 3,
        metric: Metric::FirstPacketNs,
        unit: "ns".to_owned(),
        round,
        rounds: 1,
        seed: 7,
        summary: Summary::of(&[value]).expect("a sample"),
        p50_low: None,
        p50_high: None,
        counts: round.map(|_| Distribution::of(&[value])),
        in_order: None,
    })
}

fn voided() -> Entry {
    Entry::Voided(Voided {
        instrument: "native".to_owned(),
        backend: "nft".to_owned(),
        services: 10,
        endpoints: 3,
        round: 1,
        seed: 7,
        voided: "172.16.0.1:80 came out at 10.0.0.9:8080".to_owned(),
    })
}

fn absent() -> Entry {
    Entry::Absent(Absent { backend: "ipvs".to_owned(), absent: "ip_vs is missing".to_owned() })
}

/// A folder of this test alone, removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let unique = format!("nfc-bench-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(unique))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn journal(folder: &Folder) -> Journal {
    let machine = Machine { host: "here".to_owned(), ..Machine::default() };
    Journal::create(&folder.0, &machine, "rounds = 1\n").expect("a folder")
}

#[test]
fn a_figure_is_one_flat_object() {
    let line = lines(&[figure("nft", None, 5)]);
    let value: serde_json::Value = serde_json::from_str(&line).expect("an object");
    let object = value.as_object().expect("an object");
    for name in [
        "kind",
        "instrument",
        "backend",
        "layout",
        "services",
        "endpoints",
        "metric",
        "unit",
        "round",
        "seed",
        "n",
        "min",
        "p01",
        "p50",
        "p90",
        "p99",
        "p999",
        "max",
    ] {
        assert!(object.contains_key(name), "{name} is missing in {line}");
    }
    assert!(object.values().all(|v| !v.is_object() && !v.is_array()), "{line}");
    assert!(object["round"].is_null());
}

#[test]
fn what_is_written_can_be_read_back() {
    let folder = Folder::new("roundtrip");
    let entries = vec![figure("nft", Some(0), 5), voided(), absent()];
    let mut journal = journal(&folder);
    journal.append(entries.clone()).expect("written");
    let record = Record::read(&folder.0).expect("a record");
    assert_eq!(record.entries, entries);
    assert_eq!(record.machine.host, "here");
    assert_eq!(record.figures().count(), 1);
    assert_eq!(record.voided().count(), 1);
    assert_eq!(record.absent().count(), 1);
}

#[test]
fn every_append_is_on_disk_at_once() {
    let folder = Folder::new("flush");
    let mut journal = journal(&folder);
    for n in 1..=3_usize {
        journal.append(vec![figure("nft", u32::try_from(n).ok(), 5)]).expect("written");
        let seen = Record::read(&folder.0).expect("a record");
        assert_eq!(seen.entries.len(), n);
    }
}

#[test]
fn the_last_figure_over_all_rounds_holds() {
    let folder = Folder::new("superseded");
    let mut journal = journal(&folder);
    journal.append(vec![figure("nft", Some(0), 1), figure("nft", None, 1)]).expect("written");
    journal.append(vec![figure("iptables", None, 9)]).expect("written");
    journal.append(vec![figure("nft", Some(1), 2), figure("nft", None, 2)]).expect("written");
    let expected = [
        figure("nft", Some(0), 1),
        figure("iptables", None, 9),
        figure("nft", Some(1), 2),
        figure("nft", None, 2),
    ];
    assert_eq!(Record::read(&folder.0).expect("a record").entries, expected);
    assert_eq!(journal.finish().expect("finished"), expected);
    let text = fs::read_to_string(folder.0.join(MEASUREMENTS)).expect("the file");
    assert_eq!(text.lines().count(), expected.len());
}

#[test]
fn a_torn_last_line_is_passed_over() {
    let folder = Folder::new("torn");
    let mut journal = journal(&folder);
    journal.append(vec![absent()]).expect("written");
    let path = folder.0.join(MEASUREMENTS);
    let text = fs::read_to_string(&path).expect("the file");
    fs::write(&path, text.clone() + &text[..20]).expect("written");
    assert_eq!(Record::read(&folder.0).expect("a record").entries, [absent()]);
}

#[test]
fn a_broken_line_is_named() {
    let folder = Folder::new("broken");
    let mut journal = journal(&folder);
    journal.append(vec![absent()]).expect("written");
    let path = folder.0.join(MEASUREMENTS);
    let text = fs::read_to_string(&path).expect("the file");
    fs::write(&path, text + "{\"kind\":\"rumour\"}\n").expect("written");
    let error = Record::read(&folder.0).expect_err("no such kind");
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn a_record_is_never_overwritten() {
    let folder = Folder::new("overwrite");
    journal(&folder).append(vec![absent()]).expect("written");
    let second = Journal::create(&folder.0, &Machine::default(), "");
    assert!(matches!(second, Err(RecordError::Exists { .. })));
}

fn finished(round: u32) -> Entry {
    Entry::Finished(Finished {
        instrument: "native".to_owned(),
        backend: "nft".to_owned(),
        services: 10,
        endpoints: 3,
        round,
        cpus: None,
    })
}

/// What a run was in the middle of when it ended is measured again.
#[test]
fn a_record_is_gone_on_with_from_its_last_whole_cell() {
    let folder = Folder::new("resumed");
    let mut begun = journal(&folder);
    let whole = [figure("nft", Some(0), 5), finished(0)];
    let half = [figure("nft", None, 5), figure("nft", Some(1), 6), voided()];
    begun
        .append([vec![Entry::Plan(Plan { cells: 9 })], whole.to_vec(), half.to_vec()].concat())
        .expect("written");
    drop(begun);
    let record = Record::read(&folder.0).expect("a record");
    let mut journal = Journal::resume(&folder.0, record, "later").expect("it goes on");
    assert_eq!(journal.entries(), whole);
    journal.append(vec![finished(1)]).expect("written");
    let read = Record::read(&folder.0).expect("a record");
    assert_eq!(read.entries, [whole.to_vec(), vec![finished(1)]].concat());
    assert_eq!(
        (read.machine.host.as_str(), read.machine.resumed),
        ("here", vec!["later".to_owned()])
    );
}
