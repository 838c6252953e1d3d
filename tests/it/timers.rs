//! Silent and slow peers (DIN-15) at listeners with short timers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::DiskArchive;
use async_trait::async_trait;
use contracts::{
    Admission, Answers, Archive, CommitmentIntake, EventSink, InstanceArrival, InstanceIntake,
    InstanceOutcome, Live, MessageArrival, MessageIntake, Quarantined, Refusal,
};
use dimse::{Config, Intakes, Listener, Network, Peer, Timers};
use domain::Event;
use system_tests::{Scratch, remote};
use tokio::sync::watch;

/// An intake that accepts everything and stores nothing.
struct NullIntake(Arc<dyn Archive>);

impl Admission for NullIntake {
    fn check_open(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

#[async_trait]
impl InstanceIntake for NullIntake {
    fn archive(&self) -> &Arc<dyn Archive> {
        &self.0
    }

    async fn accept_instance(
        &self,
        _: InstanceArrival,
        _: Quarantined,
    ) -> Result<InstanceOutcome, Refusal> {
        Ok(InstanceOutcome::New)
    }
}

#[async_trait]
impl MessageIntake for NullIntake {
    async fn accept_message(&self, arrival: MessageArrival) -> Result<Answers, Refusal> {
        Ok(arrival.answers)
    }
}

#[async_trait]
impl CommitmentIntake for NullIntake {}

#[async_trait]
impl EventSink for NullIntake {
    async fn record_event(&self, _: Event) {}
}

/// Duration of the timers.
const SHORT: Duration = Duration::from_millis(400);

/// Starts a DICOM listener for at most two associations, with short timers. Returns its address and
/// what closes it when it is dropped.
async fn listener(scratch: &Scratch) -> (String, watch::Sender<bool>) {
    let timers = Timers {
        artim: SHORT,
        inactivity: SHORT,
        idle: SHORT,
        message: SHORT * 4,
        throughput_min: 4096,
        response: SHORT,
    };
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ae_title: "ISOCENTER".parse().unwrap(),
        peers: Arc::new(Live::new(vec![Peer {
            ae_title: None,
            networks: Network::loopback(),
            associations_max: None,
        }])),
        associations_max: 2,
        associations_per_peer_max: 2,
        pdu_bytes_max: 131_072,
        accept_unknown_storage: false,
        association_bytes_max: 8 << 20,
        timers,
    };
    let archive: Arc<dyn Archive> = Arc::new(DiskArchive::open(&scratch.path("archive")).unwrap());
    let listener =
        Listener::bind(config, Intakes::of(&Arc::new(NullIntake(archive)))).await.unwrap();
    let address = listener.address().unwrap().to_string();
    let (closing, closed) = watch::channel(false);
    tokio::spawn(listener.listen(closed));
    (address, closing)
}

/// An A-ASSOCIATE-RQ for Verification (PS3.8, 9.3.2).
fn request() -> Vec<u8> {
    let item = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 0], length.as_slice(), content].concat()
    };
    let syntax = item(0x40, b"1.2.840.10008.1.2");
    let context = [&[1, 0, 0, 0], item(0x30, b"1.2.840.10008.1.1").as_slice(), &syntax].concat();
    let user = item(0x50, &item(0x51, &16_384_u32.to_be_bytes()));
    let body = [
        [0, 1, 0, 0].as_slice(),
        b"ISOCENTER       CT1             ",
        &[0; 32],
        &item(0x10, b"1.2.840.10008.3.1.1.1"),
        &item(0x20, &context),
        &user,
    ]
    .concat();
    [&[1, 0], u32::try_from(body.len()).unwrap().to_be_bytes().as_slice(), &body].concat()
}

/// Connects and, if `is_associated`, establishes an association.
fn connect(address: &str, is_associated: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    if is_associated {
        stream.write_all(&request()).unwrap();
        let mut header = [0; 6];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[0], 2, "an A-ASSOCIATE-AC");
        let length = u32::from_be_bytes(header[2..6].try_into().unwrap());
        let mut rest = vec![0; length as usize];
        stream.read_exact(&mut rest).unwrap();
    }
    stream
}

/// The bytes until the peer closes the connection, and the time since `start`.
fn until_closed(stream: &mut TcpStream, start: Instant) -> (Vec<u8>, Duration) {
    let mut received = Vec::new();
    // A reset closes the connection, too.
    _ = stream.read_to_end(&mut received);
    (received, start.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn din_15_who_does_not_ask_is_shown_out_by_the_artim_timer() {
    let scratch = Scratch::default();
    let (address, _closing) = listener(&scratch).await;
    let start = Instant::now();
    let mut silent = connect(&address, false);
    let mut slow = connect(&address, false);
    slow.write_all(&request()[..50]).unwrap();

    for stream in [&mut silent, &mut slow] {
        let (received, time) = until_closed(stream, start);
        assert_eq!(received, Vec::<u8>::new());
        assert!(time >= SHORT && time < SHORT * 20, "{time:?}");
    }
    remote(&address, "CT1").echo().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn din_15_an_idle_association_and_a_trickling_pdu_are_aborted() {
    let scratch = Scratch::default();
    let (address, _closing) = listener(&scratch).await;
    let start = Instant::now();
    let mut idle = connect(&address, true);
    let mut trickling = connect(&address, true);
    // DIN-13: the limit of associations is reached.
    let full = remote(&address, "CT1").echo().await.unwrap_err();
    assert!(full.to_string().contains("local limit exceeded"), "{full}");

    let trickle = std::thread::spawn(move || {
        trickling.write_all(&[4, 0, 0, 1, 0, 0]).unwrap();
        let start = Instant::now();
        // A timer that every byte restarts would never expire here.
        while start.elapsed() < SHORT * 25 && trickling.write_all(&[0]).is_ok() {
            std::thread::sleep(SHORT / 8);
        }
        start.elapsed()
    });
    let (received, time) = until_closed(&mut idle, start);

    // A-ABORT by the service provider.
    assert_eq!(received[..9], [7, 0, 0, 0, 0, 4, 0, 0, 2]);
    assert!(time >= SHORT && time < SHORT * 20, "{time:?}");
    assert!(trickle.join().unwrap() < SHORT * 25);
    remote(&address, "CT1").echo().await.unwrap();
}

/// Starts an HL7 listener for at most one connection per address. Returns its address and what
/// closes it when it is dropped.
async fn hl7_listener(scratch: &Scratch) -> (String, watch::Sender<bool>) {
    let config = hl7::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        rules: Arc::default(),
        networks: Arc::new(Live::new(Network::loopback())),
        connections_per_peer_max: 1,
        connections_max: 8,
        timers: hl7::connection::Timers::default(),
    };
    let archive: Arc<dyn Archive> = Arc::new(DiskArchive::open(&scratch.path("archive")).unwrap());
    let intake = Arc::new(NullIntake(archive));
    let messages: Arc<dyn MessageIntake> = Arc::<NullIntake>::clone(&intake);
    let listener = hl7::Listener::bind(config, messages, intake).await.unwrap();
    let address = listener.address().unwrap().to_string();
    let (closing, closed) = watch::channel(false);
    tokio::spawn(listener.listen(closed));
    (address, closing)
}

/// Opens a connection and sends a message on it.
fn sending(address: &str) -> TcpStream {
    let message = "MSH|^~\\&|A|B|C|D|20260102103000||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||1\r";
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("\x0b{message}\x1c\r").as_bytes()).unwrap();
    stream
}

/// Whether the peer acknowledges, rather than closes the connection.
fn is_answered(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(read) if read > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn hl7_02_a_connection_waits_for_the_end_of_the_one_before_and_not_for_ever() {
    let scratch = Scratch::default();
    let (address, _closing) = hl7_listener(&scratch).await;

    let first = sending(&address);
    assert!(is_answered(&first));
    let second = sending(&address);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(first);
    assert!(is_answered(&second), "the one before had ended");

    let third = sending(&address);
    assert!(!is_answered(&third), "the second is still open");
}
