//! One question to one name server.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

use crate::net::chance;

/// What a server says about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its addresses, at least one.
    Addresses(Vec<IpAddr>),
    /// There is no such name, or it has no address.
    Nothing,
}

/// Asks `server` for the addresses of `name`, both kinds at once.
pub(super) fn ask(server: SocketAddr, name: &str, deadline: Instant) -> io::Result<Answer> {
    let id = u16::from_ne_bytes(chance()?);
    let kinds = [(TYPE::A, id), (TYPE::AAAA, id.wrapping_add(1))];
    let unspecified: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((unspecified, 0))?;
    socket.connect(server)?;
    for (kind, id) in kinds {
        socket.send(&question(name, kind, id)?)?;
    }
    let mut answers: [Option<Vec<IpAddr>>; 2] = [None, None];
    let mut buffer = [0; 4096];
    while let [None, _] | [_, None] = answers {
        socket.set_read_timeout(Some(left(deadline)?))?;
        let count = match socket.recv(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // What answers another question is not ours, or a forgery.
        let Some(which) = kinds.iter().position(|&(kind, id)| answers_it(&buffer[..count], name, kind, id)) else {
            continue;
        };
        let (kind, id) = kinds[which];
        answers[which] = Some(match read(&buffer[..count])? {
            Some(addresses) => addresses,
            None => ask_at_length(server, name, kind, id, deadline)?,
        });
    }
    let addresses: Vec<IpAddr> = answers.into_iter().flatten().flatten().collect();
    Ok(if addresses.is_empty() { Answer::Nothing } else { Answer::Addresses(addresses) })
}

/// Asks over TCP, for an answer that does not fit into a datagram.
fn ask_at_length(server: SocketAddr, name: &str, kind: TYPE, id: u16, deadline: Instant) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, left(deadline)?)?;
    stream.set_read_timeout(Some(left(deadline)?))?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let question = question(name, kind, id)?;
    let mut message = (question.len() as u16).to_be_bytes().to_vec();
    message.extend(question);
    stream.write_all(&message)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    if !answers_it(&answer, name, kind, id) {
        return Err(unusable("an answer to another question"));
    }
    read(&answer)?.ok_or_else(|| unusable("an answer that is cut short"))
}

fn question(name: &str, kind: TYPE, id: u16) -> io::Result<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(io::Error::other)?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().map_err(io::Error::other)
}

fn answers_it(message: &[u8], name: &str, kind: TYPE, id: u16) -> bool {
    let Ok(packet) = Packet::parse(message) else { return false };
    let asked = |question: &Question<'_>| {
        question.qtype == kind.into() && question.qname.to_string().eq_ignore_ascii_case(name)
    };
    packet.id() == id && packet.has_flags(PacketFlag::RESPONSE) && packet.questions.first().is_some_and(asked)
}

/// The addresses in an answer; `None` if it is cut short.
fn read(message: &[u8]) -> io::Result<Option<Vec<IpAddr>>> {
    let packet = Packet::parse(message).map_err(io::Error::other)?;
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Some(Vec::new())),
        code => return Err(unusable(&format!("{code:?}"))),
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(address) => Some(Ipv4Addr::from(address.address).into()),
        RData::AAAA(address) => Some(Ipv6Addr::from(address.address).into()),
        _ => None,
    });
    Ok(Some(addresses.collect()))
}

fn unusable(what: &str) -> io::Error {
    io::Error::other(format!("the name server sent {what}"))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}
