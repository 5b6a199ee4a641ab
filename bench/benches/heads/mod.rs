//! The heads of three clients.

#![allow(dead_code, reason = "each bench target uses a part of it")]

/// The plainest.
pub(crate) const WRK: &[u8] = b"GET /1KiB.bin HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

/// A program's.
pub(crate) const CURL: &[u8] = b"GET /downloads/1KiB.bin HTTP/1.1\r\n\
Host: localhost:8080\r\n\
User-Agent: curl/7.88.1\r\n\
Accept: */*\r\n\r\n";

/// What a browser sends on a reload.
pub(crate) const BROWSER: &[u8] = b"GET /docs/io%20models/index.html?theme=dark HTTP/1.1\r\n\
Host: files.example.org\r\n\
Connection: keep-alive\r\n\
Cache-Control: max-age=0\r\n\
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n\
Sec-Fetch-Site: none\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9\r\n\
If-None-Match: \"2b0f1-400-18a1c2d3e4f5\"\r\n\
If-Modified-Since: Sun, 01 Feb 2026 10:00:00 GMT\r\n\r\n";
