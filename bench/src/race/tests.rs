use super::*;
use crate::race::board::Row;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

fn meta(without_throttle: Option<&str>) -> Meta {
    let targets = [named("blocking").unwrap(), named("epoll").unwrap()];
    Meta::new(&targets, 500.0, TICK, without_throttle.map(str::to_owned))
}

fn sample(seconds: f64) -> Sample {
    let rows = vec![Row(499.5, Some(21.5), Some(310.0), 0), Row(0.0, None, None, 2)];
    Sample { seconds, is_disk_slow: true, are_readers_slow: false, rows }
}

/// The status line and the rest.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (first, rest) = answer.split_once("\r\n").unwrap();
    (first.to_owned(), rest.to_owned())
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

#[test]
fn a_page_tells_what_was_and_what_comes() {
    let board = Arc::new(Board::new(&meta(None)));
    let page = Page::open(0, Arc::clone(&board)).unwrap();
    board.add(sample(0.5));
    let (status, html) = get(page.address(), "/");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(html.contains("data-source=\"events\""), "{html}");
    assert!(get(page.address(), "/race.js").1.ends_with(page::SCRIPT));
    assert!(get(page.address(), "/race.css").1.ends_with(page::STYLE));
    let mut stream = TcpStream::connect(page.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", page.address()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line == "event: meta"));
    assert!(
        lines.any(
            |line| line.starts_with("data: {\"t\":0.5,\"disk\":true,\"readers\":false,\"rows\":[[499.5,")
        )
    );
    board.add(sample(1.0));
    assert!(lines.any(|line| line.starts_with("data: {\"t\":1.0,")));
    board.end();
    assert!(lines.any(|line| line == "event: end"));
    assert_eq!(lines.last().as_deref(), Some(""), "and then it ends");
}

#[test]
fn only_its_own_page_may_switch_and_only_by_its_own_name() {
    let board = Arc::new(Board::new(&meta(None)));
    let page = Page::open(0, Arc::clone(&board)).unwrap();
    let address = page.address();
    let post = |path: &str, host: &str, field: &str| {
        ask(address, &format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{field}Content-Length: 0\r\n\r\n")).0
    };
    let (own, local) = (address.to_string(), format!("localhost:{}", address.port()));
    assert_eq!(post("/disk/on", &own, ""), "HTTP/1.1 403 Forbidden");
    assert_eq!(post("/disk/on", "evil.example", "X-Race: 1\r\n"), "HTTP/1.1 421 Misdirected Request");
    assert_eq!(get(address, "/events/").0, "HTTP/1.1 404 Not Found");
    assert!(!board.is_on(Switch::Disk), "nobody was allowed to");
    assert_eq!(post("/disk/on", &own, "X-Race: 1\r\n"), "HTTP/1.1 204 No Content");
    assert_eq!(post("/readers/on", &local, "x-race: 1\r\n"), "HTTP/1.1 204 No Content");
    assert!(board.is_on(Switch::Disk) && board.is_on(Switch::Readers));
    assert_eq!(post("/disk/off", &own, "X-Race: 1\r\n"), "HTTP/1.1 204 No Content");
    assert!(!board.is_on(Switch::Disk));
    for path in ["/disk/maybe", "/tap/on", "/", "disk/on"] {
        assert_eq!(post(path, &own, "X-Race: 1\r\n"), "HTTP/1.1 404 Not Found", "{path}");
    }
}

#[test]
fn a_disk_that_cannot_be_slowed_down_stays_fast() {
    let board = Board::new(&meta(Some("no control group")));
    board.turn(Switch::Disk, true);
    board.turn(Switch::Readers, true);
    assert!(!board.is_on(Switch::Disk) && board.is_on(Switch::Readers));
    assert!(board.meta().contains("\"without-throttle\":\"no control group\""), "{}", board.meta());
}

#[test]
fn a_race_can_be_saved_and_shown_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("race.json");
    let footage = Footage { meta: meta(None), samples: vec![sample(0.5), sample(1.0)] };
    footage.write(&file).unwrap();
    assert_eq!(Footage::read(&file).unwrap(), footage);
    let page = Page::replay(0, &footage).unwrap();
    assert!(get(page.address(), "/").1.contains("data-source=\"race.json\""));
    assert!(get(page.address(), "/race.json").1.ends_with(&footage.json()));
    assert_eq!(get(page.address(), "/events").0, "HTTP/1.1 404 Not Found");
    let mut other = footage;
    other.samples[0].rows.pop();
    other.write(&file).unwrap();
    assert!(Footage::read(&file).unwrap_err().to_string().ends_with("it isn't of this version"));
}

/// The site plays it with the same script as the harness.
#[test]
fn the_site_has_a_race_of_the_three() {
    let folder = repository().join("www/race");
    let footage = Footage::read(&folder.join("race.json")).unwrap();
    let json = footage.json();
    for name in ["blocking", "epoll", "uring"] {
        assert!(json.contains(&format!("\"id\":\"{name}\"")), "{name}");
    }
    assert!(footage.samples.iter().any(|sample| sample.is_disk_slow));
    assert!(footage.samples.iter().any(|sample| sample.are_readers_slow));
    assert!(json.len() < 100_000, "{} bytes", json.len());
    for (name, content) in [("race.js", page::SCRIPT), ("race.css", page::STYLE)] {
        let theirs = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(theirs == content, "www/race/{name} is old: cargo run --release -p bench -- site");
    }
}

#[test]
fn news_wake_who_waits_for_them() {
    let board = Board::new(&meta(None));
    assert_eq!(board.after(0, Duration::from_millis(1)), (Vec::new(), false));
    board.add(sample(0.5));
    assert_eq!(board.after(0, Duration::from_secs(20)), (vec![sample(0.5)], false));
    thread::scope(|scope| {
        scope.spawn(|| board.end());
        assert_eq!(board.after(1, Duration::from_secs(20)), (Vec::new(), true));
    });
}

#[test]
fn who_races_is_bounded_and_known() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let ids = |targets: Vec<Target>| targets.iter().map(|target| target.id().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(chosen(&names(&["epoll", "blocking"])).unwrap()), ["epoll", "blocking"]);
    assert!(ids(chosen(&[]).unwrap()).starts_with(&names(&["blocking", "epoll"])));
    let failure = chosen(&names(&["epol"])).unwrap_err().to_string();
    assert!(failure.starts_with("no target \"epol\"; the nearest are epoll"), "{failure}");
    assert!(chosen(&vec!["epoll".to_owned(); RACERS_MAX + 1]).is_err());
    for (time, ok) in [("30m", true), ("31m", false), ("1s", true), ("1ms", false), ("x", false)] {
        assert_eq!(parse_time(time).is_ok(), ok, "{time}");
    }
    for (rate, ok) in [("1", true), ("5000", true), ("5001", false), ("0", false), ("NaN", false)] {
        assert_eq!(parse_rate(rate).is_ok(), ok, "{rate}");
    }
}

#[test]
fn a_tour_shows_both() {
    let board = Board::new(&meta(None));
    let at = |part| {
        tour(&board, part);
        (board.is_on(Switch::Disk), board.is_on(Switch::Readers))
    };
    assert_eq!(
        [0.0, 0.3, 0.5, 0.7, 0.9].map(at),
        [(false, false), (true, false), (false, false), (false, true), (false, false)]
    );
}
