//! Against name servers on this machine that answer as they are told.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::thread;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, PacketFlag, RCODE, ResourceRecord, TYPE};

use super::*;

/// What a server knows.
#[derive(Clone, Copy)]
struct Zone {
    name: &'static str,
    v4: &'static [Ipv4Addr],
    v6: &'static [Ipv6Addr],
    /// Answers by datagram are cut short.
    long: bool,
    code: RCODE,
}

const ZONE: Zone = Zone {
    name: "storage.ci.example",
    v4: &[Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)],
    v6: &[Ipv6Addr::new(0xfd, 0, 0, 0, 0, 0, 0, 1)],
    long: false,
    code: RCODE::NoError,
};

impl Zone {
    fn answer(&self, question: &[u8], by_datagram: bool) -> Vec<u8> {
        let question = Packet::parse(question).unwrap();
        let asked = question.questions[0].clone();
        let mut reply = question.into_reply();
        let name = asked.qname.clone();
        if self.code != RCODE::NoError || !name.to_string().eq_ignore_ascii_case(self.name) {
            *reply.rcode_mut() = if self.code == RCODE::NoError { RCODE::NameError } else { self.code };
        } else if by_datagram && self.long {
            reply.set_flags(PacketFlag::TRUNCATION);
        } else {
            let records: Vec<RData<'_>> = match asked.qtype == TYPE::A.into() {
                true => self.v4.iter().map(|&address| RData::A(address.into())).collect(),
                false => self.v6.iter().map(|&address| RData::AAAA(address.into())).collect(),
            };
            let record = |data| ResourceRecord::new(name.clone(), CLASS::IN, 60, data);
            reply.answers = records.into_iter().map(record).collect();
        }
        reply.build_bytes_vec().unwrap()
    }

    /// Serves until the test is over.
    fn serve(self) -> SocketAddr {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = datagrams.local_addr().unwrap();
        let streams = TcpListener::bind(address).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((count, from)) = datagrams.recv_from(&mut buffer) {
                // A forgery first: it has another number.
                let mut forged = buffer[..count].to_vec();
                forged[0] ^= 0xff;
                forged[2] |= 0x80;
                datagrams.send_to(&forged, from).unwrap();
                datagrams.send_to(&self.answer(&buffer[..count], true), from).unwrap();
            }
        });
        thread::spawn(move || {
            use std::io::{Read, Write};
            for mut stream in streams.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let answer = self.answer(&question, false);
                stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        address
    }
}

fn config(servers: Vec<SocketAddr>) -> Config {
    Config { servers, timeout: Duration::from_millis(300), ..Config::parse("search ci.example\noptions ndots:5") }
}

fn found(config: &Config, host: &str) -> Result<Vec<IpAddr>, String> {
    look_up(config, host, Instant::now() + Duration::from_secs(10)).map_err(|error| error.to_string())
}

fn all() -> Vec<IpAddr> {
    vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), "fd::1".parse().unwrap()]
}

#[test]
fn addresses_of_both_kinds_are_found_with_the_search_list() {
    let config = config(vec![ZONE.serve()]);
    assert_eq!(found(&config, "storage"), Ok(all()));
    assert_eq!(found(&config, "STORAGE.ci.example."), Ok(all()));
}

#[test]
fn a_long_answer_comes_over_a_stream() {
    let config = config(vec![Zone { long: true, ..ZONE }.serve()]);
    assert_eq!(found(&config, "storage"), Ok(all()));
}

#[test]
fn one_kind_of_address_is_enough() {
    let config = config(vec![Zone { v6: &[], ..ZONE }.serve()]);
    assert_eq!(found(&config, "storage"), Ok(all()[..2].to_vec()));
}

#[test]
fn the_next_server_is_asked_when_one_is_silent_refuses_or_is_broken() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refusing = Zone { code: RCODE::Refused, ..ZONE }.serve();
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for broken in [silent.local_addr().unwrap(), refusing, closed] {
        assert_eq!(found(&config(vec![broken, ZONE.serve()]), "storage"), Ok(all()));
    }
}

#[test]
fn no_host_and_no_answer_are_told_apart() {
    let config_of = |zone: Zone| config(vec![zone.serve()]);
    assert_eq!(found(&config_of(ZONE), "nobody"), Err("there is no host nobody".to_owned()));
    let error = found(&config_of(Zone { code: RCODE::ServerFailure, ..ZONE }), "storage").unwrap_err();
    assert_eq!(error, "storage cannot be looked up: the name server sent ServerFailure");
}

#[test]
fn an_address_needs_no_server_and_an_answer_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "10.1.1.1 api\n").unwrap();
    let resolver = StubResolver { hosts: hosts.clone(), resolv_conf: "/nowhere".into(), known: Mutex::default() };
    let addresses = |host| resolver.addresses(host, Instant::now() + Duration::from_secs(1)).unwrap();
    assert_eq!(addresses("[::1]"), [Ipv6Addr::LOCALHOST]);
    assert_eq!(addresses("10.0.0.9"), [Ipv4Addr::new(10, 0, 0, 9)]);
    assert_eq!(addresses("api"), [Ipv4Addr::new(10, 1, 1, 1)]);
    std::fs::remove_file(hosts).unwrap();
    assert_eq!(addresses("api"), [Ipv4Addr::new(10, 1, 1, 1)]);
}
