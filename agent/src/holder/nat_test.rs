use super::*;

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a pair")
}

fn wire(forwards: Vec<(u16, u16, u8)>) -> NatWire {
    NatWire {
        address: IpAddr::from([10, 0, 2, 15]),
        prefix_bits: 24,
        gateway: Some(IpAddr::from([10, 0, 2, 2])),
        nameserver: Some(IpAddr::from([10, 0, 2, 3])),
        announced: "fd00:6d6c:6e00:2::f".parse().expect("an address"),
        forwards,
    }
}

fn line(routes: Routes, forwards: Vec<(u16, u16, u8)>) -> String {
    let words = arguments(&wire(forwards), routes, &[], true);
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[test]
fn passt_is_told_the_families_that_the_host_has_and_every_port() {
    let v4 = line(Routes { v4: true, v6: false }, vec![(8080, 80, 6), (5353, 53, 17), (8443, 443, 6)]);
    let expected = "-q -f -F 0 --no-map-gw -m 1500 --runas nobody -a 10.0.2.15 -n 24 -g 10.0.2.2 \
                    --dns-forward 10.0.2.3 -t 8080:80 -t 8443:443 -u 5353:53 -4";
    assert_eq!(v4, expected);
    let both = line(Routes { v4: true, v6: true }, Vec::new());
    assert!(both.ends_with("-a fd00:6d6c:6e00:2::f -t none -u none"), "{both}");
    let v6 = line(Routes { v4: false, v6: true }, Vec::new());
    assert!(v6.ends_with("--runas nobody -a fd00:6d6c:6e00:2::f -t none -u none -6"), "{v6}");
}

#[test]
fn servers_of_names_are_read_and_passed_on() {
    let text =
        "# by hand\nnameserver 127.0.0.53\n nameserver\t192.0.2.1\nnameserver fd00::1\noptions edns0\n";
    let found = servers(text);
    assert_eq!(found, [Ipv4Addr::new(127, 0, 0, 53), Ipv4Addr::new(192, 0, 2, 1)]);
    let words = arguments(&wire(Vec::new()), Routes { v4: true, v6: false }, &found[1..], false);
    assert!(words.windows(2).any(|pair| pair == ["-D", "192.0.2.1"]), "{words:?}");
}

#[test]
fn a_default_route_is_one_that_leads_somewhere() {
    let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
              eth0\t00000000\t01094D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
              eth0\t00094D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    let zero = "0".repeat(32);
    let v6 = format!("{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n");
    assert_eq!(Routes::of(v4, &v6), Routes { v4: true, v6: false });
    let without = v4.lines().filter(|line| !line.contains("01094D0A")).collect::<Vec<_>>().join("\n");
    let out = v6.replace(" lo", " eth0");
    assert_eq!(Routes::of(&without, &out), Routes { v4: false, v6: true });
    assert_eq!(Routes::of("", ""), Routes { v4: false, v6: false });
}

#[test]
fn frames_come_through_whole_in_both_directions_and_across_connections() {
    let (ours, passt) = pair(SocketType::STREAM);
    rustix::io::ioctl_fionbio(&ours, true).expect("is set");
    let mut stream = Stream::new(ours, Impairment::default());
    let frames: Vec<Vec<u8>> = (1..40u8).map(|n| vec![n; usize::from(n) * 300]).collect();
    // The first half of a frame comes on one connection, and the rest on the next one.
    let mut bytes = Vec::new();
    for frame in &frames {
        bytes.extend(u32::try_from(frame.len()).expect("short").to_be_bytes());
        bytes.extend(frame);
    }
    let (first, second) = bytes.split_at(bytes.len() / 2 + 1);
    let mut arrived = Vec::new();
    for part in [first, second] {
        let (guest, interface) = pair(SocketType::SEQPACKET);
        rustix::io::ioctl_fionbio(&interface, true).expect("is set");
        let (arriving, ended) = std::thread::scope(|scope| {
            let pump = scope.spawn(|| stream.pump(&interface));
            let passt = &passt;
            scope.spawn(move || {
                let mut rest = part;
                while !rest.is_empty() {
                    let count = rustix::io::write(passt, rest).expect("is written");
                    rest = &rest[count..];
                }
            });
            let mut arriving = Vec::new();
            let mut buffer = vec![0; FRAME_BYTES_MAX];
            let expected = if part.len() == first.len() {
                whole_frames(first)
            } else {
                frames.len() - whole_frames(first)
            };
            while arriving.len() < expected {
                let (_, count) = rustix::net::recv(&guest, &mut buffer[..], rustix::net::RecvFlags::empty())
                    .expect("a frame");
                arriving.push(buffer[..count].to_vec());
            }
            // The other way: what was received comes back.
            packet::send(&guest, b"a frame of the guest", None).expect("is sent");
            let mut back = [0; 24];
            let mut there = 0;
            while there < back.len() {
                there += rustix::io::read(passt, &mut back[there..]).expect("is read");
            }
            assert_eq!(&back, b"\0\0\0\x14a frame of the guest");
            drop(guest);
            (arriving, pump.join().expect("ends"))
        });
        assert_eq!(ended, PumpEnd::Interface);
        arrived.extend(arriving);
    }
    assert_eq!(arrived, frames);
}

fn whole_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(frame)) = next_frame(bytes) {
        bytes = &bytes[4 + frame.len()..];
        count += 1;
    }
    count
}

#[test]
fn what_says_that_it_is_endless_is_no_frame() {
    assert_eq!(next_frame(&[0, 0, 0]), Ok(None));
    assert_eq!(next_frame(&[0, 0, 0, 2, 1]), Ok(None));
    assert_eq!(next_frame(&[0, 0, 0, 2, 1, 2, 9]), Ok(Some(&[1u8, 2][..])));
    assert_eq!(next_frame(&[0xff, 0, 0, 2]), Err(PumpEnd::Garbage));
    assert_eq!(next_frame(&[0, 0, 0, 0]), Err(PumpEnd::Garbage));
}

#[test]
fn what_a_guest_sends_is_held_back_as_its_project_wants_it() {
    let (ours, passt) = pair(SocketType::STREAM);
    rustix::io::ioctl_fionbio(&ours, true).expect("is set");
    let impairment = Impairment { delay: mln_protocol::model::Delay::parse("100ms"), ..Default::default() };
    let mut stream = Stream::new(ours, impairment);
    let (guest, interface) = pair(SocketType::SEQPACKET);
    rustix::io::ioctl_fionbio(&interface, true).expect("is set");
    let start = Instant::now();
    packet::send(&guest, b"a frame that is late", None).expect("is sent");
    std::thread::scope(|scope| {
        let pump = scope.spawn(|| stream.pump(&interface));
        let mut buffer = [0; 64];
        let count = rustix::io::read(&passt, &mut buffer).expect("it arrives");
        assert_eq!(&buffer[..count], b"\0\0\0\x14a frame that is late");
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
        drop(guest);
        assert_eq!(pump.join().expect("it ends"), PumpEnd::Interface);
    });
}

#[test]
fn nothing_stays_of_a_passt_whose_guest_has_ended() {
    let process = Command::new("sleep").arg("1000").spawn().expect("starts");
    let pid = Pid::from_child(&process);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    let (socket, _) = pair(SocketType::STREAM);
    let stream = Stream::new(socket, Impairment::default());
    drop(Passt { process, pidfd, stream: Arc::new(Mutex::new(stream)) });
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    assert!(stat.is_err(), "{stat:?}");
}

#[test]
fn a_port_that_somebody_has_is_found_before_passt_is_started() {
    let other = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = other.local_addr().expect("it is bound").port();
    assert_eq!(taken_port(&[(port, 80, TCP)]), Some(port));
    drop(other);
    assert_eq!(taken_port(&[(port, 80, TCP)]), None);
}
