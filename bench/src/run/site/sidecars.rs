//! Files that were compressed when the site was built, beside the files themselves: `page.html.br`.

use crate::load::coding::Coding;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A step below the highest, which takes three times as long and gains 3 %.
const BROTLI_QUALITY: i32 = 10;
const BROTLI_WINDOW_BITS: i32 = 22;
/// As tools for sites do: `zstd -19`.
const ZSTD_LEVEL: &str = "-19";
/// Below this a file with its head fits into one packet in any case.
pub(crate) const BYTES_MIN: usize = 1_024;

/// What this harness writes itself. zstd(1) writes its own, where it is installed.
pub(crate) const WRITTEN: [Coding; 2] = [Coding::Gzip, Coding::Br];

/// `page.html` and so on become `page.html.br`.
pub(crate) fn path(file: &Path, coding: Coding) -> PathBuf {
    let ending = match coding {
        Coding::Gzip => ".gz",
        Coding::Br => ".br",
        Coding::Zstd => ".zst",
        Coding::Deflate | Coding::Identity => unreachable!("servers look for no such files"),
    };
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// `content` in a coding that is [`WRITTEN`].
pub(crate) fn coded(coding: Coding, content: &[u8]) -> io::Result<Vec<u8>> {
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(content)?;
            encoder.finish()
        }
        Coding::Br => {
            let parameters = BrotliEncoderParams {
                quality: BROTLI_QUALITY,
                lgwin: BROTLI_WINDOW_BITS,
                size_hint: content.len(),
                ..BrotliEncoderParams::default()
            };
            let mut coded = Vec::new();
            brotli::BrotliCompress(&mut &*content, &mut coded, &parameters)?;
            Ok(coded)
        }
        Coding::Zstd | Coding::Deflate | Coding::Identity => unreachable!("not written here"),
    }
}

/// Whether zstd(1) is there.
pub(crate) fn has_zstd() -> bool {
    let version = Command::new("zstd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Lets zstd(1) write the sidecars of these files.
pub(crate) fn write_zstd(files: &[PathBuf]) -> io::Result<()> {
    /// Well below what a command line may hold.
    const FILES_PER_CALL: usize = 512;
    for files in files.chunks(FILES_PER_CALL) {
        let status = Command::new("zstd")
            .args([ZSTD_LEVEL, "--quiet", "--force", "--keep", "--"])
            .args(files)
            .status()?;
        if !status.success() {
            return Err(io::Error::other(format!("zstd: {status}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let content = "It is what it was when it was written. ".repeat(60);
        for coding in WRITTEN {
            let coded = coded(coding, content.as_bytes()).unwrap();
            assert!(coded.len() < content.len() / 4, "{coding}: {}", coded.len());
            assert_eq!(coding.decode(&coded, content.len() as u64).unwrap(), content.as_bytes(), "{coding}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(path(Path::new("/a/page.html"), Coding::Zstd), Path::new("/a/page.html.zst"));
    }

    #[test]
    fn zstd_writes_beside_the_file() {
        if !has_zstd() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("-page.html");
        std::fs::write(&file, "what it says ".repeat(100)).unwrap();
        write_zstd(std::slice::from_ref(&file)).unwrap();
        let coded = std::fs::read(path(&file, Coding::Zstd)).unwrap();
        assert_eq!(Coding::Zstd.decode(&coded, 10_000).unwrap(), std::fs::read(&file).unwrap());
    }
}
