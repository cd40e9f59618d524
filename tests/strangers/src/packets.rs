//! Packets of every kind that pkarr can make, one thing to get wrong in each.

use pkarr::dns::rdata::{RData, AFSDB, CAA, HINFO, LOC, MX, NAPTR, NULL, SOA, SRV, SVCB, TXT};
use pkarr::dns::{CharacterString, Name};
use pkarr::{Keypair, SignedPacket, SignedPacketBuilder};

pub const KINDS: [&str; 26] = [
    "a", "aaaa", "cname", "mx", "txt", "txt-long", "txt-bytes", "srv", "ns", "soa", "https", "svcb", "caa", "ptr",
    "naptr", "hinfo", "loc", "afsdb", "wildcard", "ttl-0", "ttl-max", "many-names", "big", "unknown-type", "upper-case",
    "empty",
];

const TTL: u32 = 300;

fn name(text: &str) -> Name<'_> {
    // Unchecked, because the crate takes few names with an underscore for good ones.
    Name::new_unchecked(text)
}

fn string(bytes: &[u8]) -> CharacterString<'_> {
    CharacterString::new(bytes).expect("a string")
}

fn service() -> SVCB<'static> {
    let mut svcb = SVCB::new(1, name("svc.example.com"));
    svcb.set_alpn(&[string(b"h2"), string(b"h3")]);
    svcb.set_port(8443);
    svcb.set_ipv4hint(&[0xc000_0207]);
    svcb.set_ipv6hint(&[0x2001_0db8_0000_0000_0000_0000_0000_0007]);
    svcb
}

fn text(strings: &[&[u8]]) -> RData<'static> {
    let mut txt = TXT::new();
    for part in strings {
        txt.add_char_string(string(part));
    }
    RData::TXT(txt.into_owned())
}

fn filled(mut builder: SignedPacketBuilder, kind: &str) -> Option<SignedPacketBuilder> {
    let one = |owner: &str, data: RData| SignedPacket::builder().rdata(name(owner), data, TTL);
    Some(match kind {
        "a" => builder.a(name("www"), [192, 0, 2, 7].into(), TTL),
        "aaaa" => builder.aaaa(name("www"), "2001:db8::7".parse().ok()?, TTL),
        "cname" => builder.cname(name("www"), name("www.example.com"), TTL),
        "mx" => one(".", RData::MX(MX { preference: 10, exchange: name("mail.example.com") })),
        "txt" => one("_note", text(&[b"a=1", b"b=2", b""])),
        "txt-long" => one("long", text(&[&[b'l'; 255], &[b'm'; 255], b"end"])),
        "txt-bytes" => one("raw", text(&[&[0, 255, b'"', b'\\', 0xc3, 0x28]])),
        "srv" => {
            one("_sip._udp", RData::SRV(SRV { priority: 1, weight: 2, port: 5060, target: name("sip.example.com") }))
        }
        "ns" => one("child", RData::NS(name("ns.example.com").into())),
        "soa" => one(
            ".",
            RData::SOA(SOA {
                mname: name("ns.example.com"),
                rname: name("root.example.com"),
                serial: 2_026_112_901,
                refresh: 3600,
                retry: 600,
                expire: 5_184_000,
                minimum: 60,
            }),
        ),
        "https" => builder.https(name("."), service(), TTL),
        "svcb" => builder.svcb(name("_dns"), service(), TTL),
        "caa" => one(".", RData::CAA(CAA { flag: 128, tag: string(b"issue"), value: (b"ca.example.net".as_slice()).into() })),
        "ptr" => one("7.2.0.192", RData::PTR(name("www.example.com").into())),
        "naptr" => one(
            "enum",
            RData::NAPTR(NAPTR {
                order: 1,
                preference: 2,
                flags: string(b"U"),
                services: string(b"E2U+sip"),
                regexp: string(b"!^.*$!sip:info@example.com!"),
                replacement: name("."),
            }),
        ),
        "hinfo" => one("host", RData::HINFO(HINFO { cpu: string(b"RISC-V"), os: string(b"Plan 9") })),
        "loc" => one(
            "here",
            RData::LOC(LOC {
                version: 0,
                size: 0x12,
                horizontal_precision: 0x16,
                vertical_precision: 0x13,
                latitude: i32::MAX,
                longitude: i32::MIN + 1,
                altitude: 10_000_000,
            }),
        ),
        "afsdb" => one("cell", RData::AFSDB(AFSDB { subtype: 1, hostname: name("afs.example.com") })),
        "wildcard" => builder.a(name("*"), [192, 0, 2, 8].into(), TTL),
        "ttl-0" => builder.a(name("now"), [192, 0, 2, 9].into(), 0),
        "ttl-max" => builder.a(name("ever"), [192, 0, 2, 9].into(), (1 << 31) - 1),
        "many-names" => {
            for n in 0..24_u8 {
                builder = builder.a(name(&format!("host-{n}.rack.site")), [192, 0, 2, n].into(), TTL + u32::from(n));
            }
            builder
        }
        // 996 bytes, which BEP 44 has as 1000.
        "big" => {
            let strings: [&[u8]; 4] = [&[b'a'; 255], &[b'b'; 255], &[b'c'; 255], &[b'd'; 144]];
            one(".", text(&strings))
        }
        "unknown-type" => one("odd", RData::NULL(65_280, NULL::new(b"\x00\x01anything").ok()?)),
        "upper-case" => builder.a(name("WwW.Sub"), [192, 0, 2, 10].into(), TTL),
        "empty" => builder,
        _ => return None,
    })
}

pub fn packet(kind: &str, keypair: &Keypair) -> Result<SignedPacket, String> {
    let builder = filled(SignedPacket::builder(), kind).ok_or_else(|| format!("no kind {kind}"))?;
    builder.sign(keypair).map_err(|error| format!("{kind}: {error:?}"))
}
