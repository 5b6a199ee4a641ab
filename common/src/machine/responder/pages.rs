//! Pages and their addresses. With `--clean-urls` the page `about.html` has the address `/about`, and who asks for its
//! name is sent there; with `--spa` the root's index page is sent for what isn't found.
//!
//! | asked for | there is | answer |
//! |---|---|---|
//! | `/about` | a file `about` | that |
//! | | `about.html`, whatever else is a directory | `about.html` |
//! | | a directory | 301 to `/about/` |
//! | `/about/` | its index page | that |
//! | | none, and `about.html` | 301 to `/about` |
//! | `/about.html` | it, and no file `about` | 301 to `/about` |
//! | `/dir/index.html`, `/dir/index` | it | 301 to `/dir/` |
//!
//! **No loops.** Nobody is sent to an address where a rule counts although there is a file, so an address that somebody
//! is sent to is answered with the page itself, as long as it is there.
//!
//! **A cached page costs no open** where it is known that no file has its clean address ([`Alone`]): that is found out by
//! one open while the page is in the cache.

use std::io;
use std::sync::Arc;

use rustix::fs::FileType;

use super::{Missing, Purpose, Responder, Rewrite, unshared};
use crate::http::request::Request;
use crate::http::status::Status;
use crate::http::target;
use crate::http::view::asks_for_html;
use crate::machine::context::Context;
use crate::machine::reader::Current;
use crate::site::addresses::{Address, Alone, may_be_clean};
use crate::site::cache::CachedFile;
use crate::site::files::Lookup;
use crate::site::open::{Opened, status_of};
use crate::site::rules::Asked;

/// Why the page is looked for that a path would be the clean address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// There is no such file.
    Nothing,
    /// It is a directory.
    Directory,
    /// The directory has no index.
    Index,
}

/// What is known of the page that is asked for.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// It was asked for by its clean address.
    pub(super) is_clean: bool,
    /// It is sent whatever else its address is.
    keeps_name: bool,
    /// It is in the cache; whether it is alone is about to be found out.
    alone: Option<Alone>,
}

impl Responder {
    /// There is no file of the path. Looks for the page that it is the clean address of; false if that can't be.
    pub(super) fn seek_page(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        instead: Instead,
    ) -> bool {
        let options = context.files.site().options();
        // A rule that names a directory means its index.
        let is_meant = self.purpose == Purpose::File && (self.rewrite.is_none() || instead != Instead::Index);
        if !options.clean_urls || !is_meant || !may_be_clean(&self.path, options.hidden) {
            return false;
        }
        unshared(&mut self.open, context).set_page(context.files.site(), &self.path);
        self.purpose = Purpose::Page(instead);
        self.look_up(context, current);
        true
    }

    /// The path isn't cached, but perhaps the page is that it is the clean address of.
    #[cold]
    pub(super) fn look_up_page(&mut self, context: &mut Context, current: &Current<'_>) -> bool {
        let shows_hidden = context.files.site().options().hidden;
        if self.directory || self.purpose != Purpose::File || !may_be_clean(&self.path, shows_hidden) {
            return false;
        }
        unshared(&mut self.open, context).set_page(context.files.site(), &self.path);
        let found = context.files.cached(self.open.path_bytes(), context.now());
        if let Lookup::Hit(cached) = found
            && let Some(alone) = &cached.rules.alone
        {
            if alone.is_known() {
                context.counts.cache_hits += 1;
                if !cached.rules.may_be_forced || !self.is_forced(context, current) {
                    self.page.is_clean = true;
                    self.answer_cached(context, current, cached);
                }
                return true;
            }
            self.page.alone = Some(alone.clone());
        }
        unshared(&mut self.open, context).set_file(context.files.site(), &self.path, b"");
        false
    }

    /// A page is in the cache under the path that was looked up. Whether something else was answered.
    pub(super) fn is_answered_elsewhere(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        cached: &Arc<CachedFile>,
    ) -> bool {
        match self.purpose {
            Purpose::Page(instead) => self.on_page(context, current, instead),
            Purpose::File => {
                (cached.rules.may_be_forced && self.is_forced(context, current))
                    || self.leaves_name(context, current, cached.rules.alone.as_ref())
            }
            _ => false,
        }
    }

    /// The page was found that the path is the clean address of. Whether the client was sent to another address.
    fn on_page(&mut self, context: &mut Context, current: &Current<'_>, instead: Instead) -> bool {
        let found = context.files.site().address(self.open.path_bytes());
        let is_index = matches!(found, Some(Address::Directory(_)));
        self.purpose = Purpose::File;
        if let Some(alone) = self.page.alone.take() {
            alone.note();
        }
        if self.rewrite.is_none() && instead == Instead::Index {
            return self.is_sent_on(context, current, self.path.len(), b"");
        }
        if self.rewrite.is_none() && is_index {
            let directory = memchr::memrchr(b'/', &self.path).unwrap_or(0);
            if self.is_sent_on(context, current, directory, b"/") {
                return true;
            }
        }
        self.page.is_clean = true;
        false
    }

    /// The open of the page has ended that the path would be the clean address of.
    pub(super) fn on_page_opened(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        instead: Instead,
        result: io::Result<Opened>,
    ) {
        match result {
            Ok(opened) if opened.metadata.kind == FileType::RegularFile => {
                if !self.on_page(context, current, instead) {
                    self.answer_opened(context, current, opened);
                }
            }
            Err(error) if status_of(&error) != Status::NotFound => self.on_failed(context, current, &error),
            _ => {
                self.page.alone = None;
                self.purpose = Purpose::Page(instead);
                match instead {
                    Instead::Nothing => self.on_not_found(context, current),
                    Instead::Directory => self.on_directory(context, current),
                    Instead::Index => self.on_no_index(context, current),
                }
            }
        }
    }

    /// A file was found under its name. Whether that isn't its address: then the client is sent there, or it is found out
    /// whether it can be.
    pub(super) fn leaves_name(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        alone: Option<&Alone>,
    ) -> bool {
        let site = context.files.site();
        if !site.options().clean_urls || self.directory || self.rewrite.is_some() || self.page.keeps_name {
            return false;
        }
        match site.address(&self.path) {
            None => false,
            Some(Address::Directory(directory)) => {
                let directory = directory.len();
                self.is_sent_on(context, current, directory, b"/")
            }
            Some(Address::Clean(address)) => {
                let address = address.len();
                if alone.is_some_and(Alone::is_known) {
                    return self.is_sent_on(context, current, address, b"");
                }
                self.page.alone = alone.cloned();
                let address = &self.path[..address];
                unshared(&mut self.open, context).set_file(context.files.site(), address, b"");
                self.purpose = Purpose::Namesake;
                self.missing = Missing::File;
                true
            }
        }
    }

    /// The open has ended of what has the clean address of the page that was asked for by its name.
    pub(super) fn on_namesake(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        result: io::Result<Opened>,
    ) {
        let is_alone = match result {
            Ok(opened) => opened.metadata.kind != FileType::RegularFile,
            Err(error) => status_of(&error) == Status::NotFound,
        };
        self.purpose = Purpose::File;
        let alone = self.page.alone.take();
        if is_alone {
            alone.iter().for_each(Alone::note);
            let address = context.files.site().address(&self.path).map(|address| address.path().len());
            if self.is_sent_on(context, current, address.unwrap_or(self.path.len()), b"") {
                return;
            }
        }
        self.page.keeps_name = true;
        self.look_up_file(context, current);
    }

    /// Sends the client to so much of the path, with this behind it; false if a rule would send it away from there.
    fn is_sent_on(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        path_bytes: usize,
        end: &[u8],
    ) -> bool {
        let asked =
            Asked { path: &self.path[..path_bytes], directory: !end.is_empty(), ..self.asked(current) };
        let rules = context.files.site().rules();
        if rules.is_some_and(|rules| rules.forced_redirect(&asked).is_some()) {
            return false;
        }
        let mut location = vec![b'/'];
        target::encode(asked.path, &mut location);
        if location.len() > 1 {
            location.extend_from_slice(end);
        }
        location.extend_from_slice(asked.query);
        self.answer_moved(context, current, Status::MovedPermanently, &location);
        true
    }

    /// Nothing is found, whatever the rules say: the application's page for who asks for a page, or 404.
    pub(super) fn on_missing(&mut self, context: &mut Context, current: &Current<'_>) {
        let options = context.files.site().options();
        let is_hidden = !options.hidden && target::shown_bytes(&self.path) < self.path.len();
        if !options.spa
            || is_hidden
            || self.rewrite.is_some()
            || !asks_for_html(Request::values(current.head, "Accept"))
        {
            return self.seek_not_found_page(context, current);
        }
        let (status, directory) = (Status::Ok, self.directory);
        self.rewrite = Some(Rewrite { status, directory, is_negotiated: true, line: None });
        self.purpose = Purpose::File;
        std::mem::swap(&mut self.path, &mut self.asked);
        self.path.clear();
        self.directory = true;
        self.look_up_file(context, current);
    }
}
