//! The responder: decides what a request is answered with, as far as that can be told without a file, and goes on when
//! the file is there.

mod negotiation;
mod pages;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::http::accept_encoding::Coding;
use crate::http::additions::Additions;
use crate::http::head::{self, Form, General, Persistence, Representation};
use crate::http::mime::MediaType;
use crate::http::plan::{Plan, plan};
use crate::http::range::{ByteRange, Ranges};
use crate::http::request::{Expectation, Method, Request};
use crate::http::status::Status;
use crate::http::target;
use crate::http::view::{Format, View};
use crate::machine::context::Context;
use crate::machine::outgoing::Outgoing;
use crate::machine::reader::Current;
use crate::machine::responder::pages::{Instead, Page};
use crate::machine::step::Close;
use crate::site::cache::{CachedFile, Source, representation};
use crate::site::file::{FileRange, Metadata};
use crate::site::file_bytes::FileBytes;
use crate::site::files::Lookup;
use crate::site::open::{OpenRequest, Opened, status_of};
use crate::site::root::Site;
use crate::site::rules::{Asked, REDIRECTS_FILE, Redirect, is_rule_file};
use negotiation::Whole;

/// Paths that grew beyond this are not kept for the next exchange.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Folders that are searched for a `404.html`, the root among them. Where there are more on the path, it is the lowest
/// ones and the root.
const FOLDERS_MAX: usize = 8;

/// What a request needs before it can be answered.
#[derive(Debug, Default)]
pub(crate) enum Missing {
    /// Nothing: it has its answer, or there is none.
    #[default]
    Nothing,
    /// The open of [`Responder::open_request`].
    File,
    /// The bytes of this file, for the cache.
    Bytes(Arc<CachedFile>),
}

/// What an open is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Purpose {
    /// The file that was asked for.
    #[default]
    File,
    /// The entries of a directory that has no index.
    Listing,
    /// The page that the path is the clean address of.
    Page(Instead),
    /// What has the clean address of the page that was asked for by its name.
    Namesake,
    /// Whether there is a directory that has no index, to tell the operator of listings.
    Folder,
    /// The file that is beside the one that was asked for, in this coding.
    Variant(Coding),
    /// The site's own page for an error.
    ErrorPage(Status),
}

/// Where the site's own page for an error is looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    /// The page for what isn't there may be in any folder on the path. So many bytes of the path are the next one;
    /// `None` when the root's own has been tried.
    folder_bytes: Option<usize>,
    /// How many folders have been tried.
    folders: usize,
}

/// A rule has put another path in the place of the one that was asked for.
#[derive(Clone, Copy, Debug)]
struct Rewrite {
    /// What the file of the other path is sent with.
    status: Status,
    /// The path that was asked for names a directory.
    directory: bool,
    /// It depends on what the client takes.
    is_negotiated: bool,
    /// The line of the rule, where its target is the same for all requests.
    line: Option<usize>,
}

/// Answers requests.
#[derive(Debug)]
pub(crate) struct Responder {
    /// What is to be sent.
    pub(crate) outgoing: Outgoing,
    /// What the current request lacks.
    pub(crate) missing: Missing,
    /// The connection ends in this way behind what is to be sent.
    pub(crate) close: Option<Close>,
    purpose: Purpose,
    search: Search,
    /// The target names a directory.
    directory: bool,
    /// Where in the target the query stands.
    query: Range<usize>,
    /// The path of what is sent,
    path: Vec<u8>,
    /// and the one that was asked for, where a rule has put the other in its place.
    asked: Vec<u8>,
    rewrite: Option<Rewrite>,
    page: Page,
    open: Arc<OpenRequest>,
    /// What there is, while a variant of it is looked for,
    whole: Option<Whole>,
    /// and its path.
    whole_path: Vec<u8>,
}

impl Responder {
    pub(crate) fn new(site: &Arc<Site>) -> Responder {
        Responder {
            outgoing: Outgoing::new(),
            missing: Missing::Nothing,
            close: None,
            purpose: Purpose::default(),
            search: Search::default(),
            directory: false,
            query: 0..0,
            path: Vec::new(),
            asked: Vec::new(),
            rewrite: None,
            page: Page::default(),
            open: Arc::new(OpenRequest::new(Arc::clone(site))),
            whole: None,
            whole_path: Vec::new(),
        }
    }

    /// Forgets everything but the memory.
    #[inline]
    pub(crate) fn reset(&mut self, context: &mut Context) {
        self.outgoing.clear(context);
        self.missing = Missing::Nothing;
        self.close = None;
        self.path.clear();
        self.path.shrink_to(KEPT_BYTES_MAX);
        if self.asked.capacity() | self.whole_path.capacity() != 0 {
            self.reset_rare();
        }
    }

    /// What only rules and variants use.
    #[cold]
    fn reset_rare(&mut self) {
        self.whole = None;
        for path in [&mut self.asked, &mut self.whole_path] {
            path.clear();
            path.shrink_to(KEPT_BYTES_MAX);
        }
    }

    /// The file that is missing.
    pub(crate) fn open_request(&self) -> &Arc<OpenRequest> {
        &self.open
    }

    /// Whether the next request may be answered now, behind the answers that have gathered.
    pub(crate) fn takes_requests(&self) -> bool {
        matches!(self.missing, Missing::Nothing) && self.close.is_none() && self.outgoing.has_room()
    }

    /// Answers a request, or finds out what that takes.
    #[inline]
    pub(crate) fn answer(&mut self, context: &mut Context, current: &Current<'_>) {
        self.outgoing.ask(context.now());
        let answered = match current.request.method {
            Method::Unknown => Err(Status::NotImplemented),
            Method::Known => Err(Status::MethodNotAllowed),
            Method::Options => self.answer_options(context, current),
            Method::Get | Method::Head => self.locate(context, current),
        };
        if let Err(status) = answered {
            self.answer_error(context, current, status);
        }
    }

    fn answer_options(&mut self, context: &mut Context, current: &Current<'_>) -> Result<(), Status> {
        let target = current.request.target(current.head);
        if target != b"*" {
            target::resolve(target, &mut self.path)?;
        }
        self.answer_from_memory(context, current, Status::NoContent, 0, head::build_options);
        Ok(())
    }

    /// Resolves the target, and answers from the cache or prepares the open.
    #[inline]
    fn locate(&mut self, context: &mut Context, current: &Current<'_>) -> Result<(), Status> {
        let target = target::resolve(current.request.target(current.head), &mut self.path)?;
        self.directory = target.directory;
        self.query = target.query;
        self.rewrite = None;
        self.page = Page::default();
        self.purpose = Purpose::File;
        if self.path.first() == Some(&b'_') && is_rule_file(&self.path) {
            self.seek_not_found_page(context, current);
        } else if target.hidden && !context.files.site().options().hidden {
            self.on_not_found(context, current);
        } else {
            self.look_up_file(context, current);
        }
        Ok(())
    }

    #[inline]
    fn look_up_file(&mut self, context: &mut Context, current: &Current<'_>) {
        let open = unshared(&mut self.open, context);
        let site = context.files.site();
        let index = if self.directory { site.options().index.as_str() } else { "" };
        open.set_file(site, &self.path, index.as_bytes());
        self.look_up(context, current);
    }

    /// There is no file of the path: the page that it is the address of counts, then what the site's rules say, and if
    /// they say nothing, it isn't found.
    fn on_not_found(&mut self, context: &mut Context, current: &Current<'_>) {
        if !self.directory && self.seek_page(context, current, Instead::Nothing) {
            return;
        }
        if let Some(rewrite) = self.rewrite {
            self.on_no_target(context, current, rewrite);
        } else if let Some(redirect) = self.find_redirect(context, current) {
            self.carry_out(context, current, &redirect);
        } else {
            self.on_missing(context, current);
        }
    }

    fn find_redirect(&self, context: &Context, current: &Current<'_>) -> Option<Redirect> {
        context.files.site().rules()?.redirect(&self.asked(current))
    }

    /// Carries out the redirect that counts even if there is a file of the path. Whether there was one.
    fn is_forced(&mut self, context: &mut Context, current: &Current<'_>) -> bool {
        let Some(rules) = context.files.site().rules() else { return false };
        if self.purpose != Purpose::File || self.rewrite.is_some() {
            return false;
        }
        let redirect = rules.forced_redirect(&self.asked(current));
        if let Some(redirect) = &redirect {
            self.carry_out(context, current, redirect);
        }
        redirect.is_some()
    }

    /// What the rules are told of the request.
    fn asked<'a>(&'a self, current: &Current<'a>) -> Asked<'a> {
        let target = current.request.target(current.head);
        let host = target::authority(target).or_else(|| Request::values(current.head, "Host").next());
        Asked { path: &self.path, directory: self.directory, query: &target[self.query.clone()], host }
    }

    /// Answers as a rule has it.
    fn carry_out(&mut self, context: &mut Context, current: &Current<'_>, redirect: &Redirect) {
        let Redirect { status, location, line, is_fixed, .. } = redirect;
        if !redirect.is_rewrite() {
            return self.answer_moved(context, current, *status, location);
        }
        let line = is_fixed.then_some(*line);
        let rewrite = Rewrite { status: *status, directory: self.directory, is_negotiated: false, line };
        self.rewrite = Some(rewrite);
        self.purpose = Purpose::File;
        std::mem::swap(&mut self.path, &mut self.asked);
        let shows_hidden = context.files.site().options().hidden;
        match target::resolve(location, &mut self.path) {
            Ok(target) if (shows_hidden || !target.hidden) && !is_rule_file(&self.path) => {
                self.directory = target.directory;
                self.look_up_file(context, current);
            }
            Ok(_) | Err(_) => self.on_no_target(context, current, rewrite),
        }
    }

    /// The file that a rule names isn't there. It is not looked up in the rules again, so there are no loops.
    fn on_no_target(&mut self, context: &mut Context, current: &Current<'_>, rewrite: Rewrite) {
        let site = context.files.site();
        if let (Some(line), Some(rules)) = (rewrite.line, site.rules())
            && site.options().fault_log.is_some()
            && rules.note_target_missing(line)
        {
            let target = String::from_utf8_lossy(&self.path);
            let name = REDIRECTS_FILE.as_bytes();
            site.tell_fault(
                context.now(),
                name,
                format_args!("line {line}: there is no /{target} to be served"),
            );
        }
        std::mem::swap(&mut self.path, &mut self.asked);
        self.directory = rewrite.directory;
        self.rewrite = None;
        match rewrite.status {
            Status::Gone => self.answer_error(context, current, Status::Gone),
            _ => self.seek_not_found_page(context, current),
        }
    }

    /// What the site's rules add to answers to this request.
    fn additions(&self, context: &Context) -> Option<Arc<Additions>> {
        let asked = if self.rewrite.is_some() { &self.asked } else { &self.path };
        context.files.site().rules()?.additions(asked)
    }

    /// Answers with the site's own page for what isn't there: `404.html`, the nearest one on the way up from the path.
    fn seek_not_found_page(&mut self, context: &mut Context, current: &Current<'_>) {
        let mut folder = match self.directory {
            true => self.path.len(),
            false => memchr::memrchr(b'/', &self.path).unwrap_or(0),
        };
        if !context.files.site().options().hidden {
            folder = folder.min(target::shown_bytes(&self.path));
        }
        self.search = Search { folder_bytes: Some(folder), folders: 0 };
        self.seek_further(context, current);
    }

    /// Looks for the page for what isn't there in the next folder, or answers without one.
    fn seek_further(&mut self, context: &mut Context, current: &Current<'_>) {
        let Search { folder_bytes, folders } = self.search;
        let Some(mut folder) = folder_bytes else {
            return self.answer_error(context, current, Status::NotFound);
        };
        if folders + 1 >= FOLDERS_MAX {
            folder = 0;
        }
        let parent = || memchr::memrchr(b'/', &self.path[..folder]).unwrap_or(0);
        self.search = Search { folder_bytes: (folder > 0).then(parent), folders: folders + 1 };
        let folder = &self.path[..folder];
        unshared(&mut self.open, context).set_file(context.files.site(), folder, b"404.html");
        self.purpose = Purpose::ErrorPage(Status::NotFound);
        self.look_up(context, current);
    }

    /// Answers an error that has befallen an open with the site's own page for it, if the root has one.
    fn seek_error_page(&mut self, context: &mut Context, current: &Current<'_>, status: Status) {
        let page = match status {
            Status::NotFound => return self.on_not_found(context, current),
            Status::Forbidden => b"403.html",
            _ => b"50x.html",
        };
        self.search = Search::default();
        unshared(&mut self.open, context).set_file(context.files.site(), page, b"");
        self.purpose = Purpose::ErrorPage(status);
        self.look_up(context, current);
    }

    /// Answers from the cache, if the file is there.
    #[inline]
    fn look_up(&mut self, context: &mut Context, current: &Current<'_>) {
        match context.files.cached(self.open.path_bytes(), context.now()) {
            Lookup::Hit(cached) => {
                context.counts.cache_hits += 1;
                if !cached.rules.may_be_overruled || !self.is_answered_elsewhere(context, current, &cached) {
                    self.answer_cached(context, current, cached);
                }
            }
            Lookup::Miss => {
                if context.files.site().options().clean_urls && self.look_up_page(context, current) {
                    return;
                }
                context.counts.cache_misses += 1;
                self.prepare_open(context, current);
            }
            Lookup::NoCache => self.prepare_open(context, current),
        }
    }

    #[inline]
    fn prepare_open(&mut self, context: &mut Context, current: &Current<'_>) {
        if !self.is_forced(context, current) {
            self.missing = Missing::File;
        }
    }

    #[inline]
    fn answer_cached(&mut self, context: &mut Context, current: &Current<'_>, cached: Arc<CachedFile>) {
        if self.negotiates(current, &cached) {
            let (metadata, form, source) = (cached.metadata, cached.form, cached.source.clone());
            return self.negotiate(context, current, metadata, form, source, Some(cached));
        }
        self.answer_with_cached(context, current, cached);
    }

    /// Whether the client may be sent the file in a coding.
    #[inline]
    fn negotiates(&self, current: &Current<'_>, cached: &CachedFile) -> bool {
        cached.form.varies && current.request.negotiates_codings() && self.sends_file()
    }

    #[inline]
    fn answer_with_cached(&mut self, context: &mut Context, current: &Current<'_>, cached: Arc<CachedFile>) {
        if cached.wants_bytes && current.request.method == Method::Get {
            self.missing = Missing::Bytes(cached);
            return;
        }
        let source = cached.source.clone();
        self.answer_found(context, current, Found::of(&cached, source));
    }

    /// The open has ended, well or not.
    pub(crate) fn opened(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        result: io::Result<Opened>,
    ) {
        self.missing = Missing::Nothing;
        match (self.purpose, result) {
            (Purpose::File, Ok(opened)) => match opened.metadata.kind {
                FileType::RegularFile
                    if context.files.site().options().clean_urls
                        && self.leaves_name(context, current, None) => {}
                FileType::RegularFile => self.answer_opened(context, current, opened),
                FileType::Directory if !self.directory => self.on_directory(context, current),
                _ if self.directory => self.on_no_index(context, current),
                _ => self.on_not_found(context, current),
            },
            (Purpose::File, Err(error)) if self.directory && status_of(&error) == Status::NotFound => {
                self.on_no_index(context, current);
            }
            (Purpose::Listing, Ok(Opened { listing: Some(listing), .. })) => {
                self.answer_listing(context, current, listing);
            }
            (Purpose::Page(instead), result) => self.on_page_opened(context, current, instead, result),
            (Purpose::Namesake, result) => self.on_namesake(context, current, result),
            (Purpose::Variant(coding), result) => self.on_variant(context, current, coding, result),
            (Purpose::Listing, Ok(_)) => self.on_missing(context, current),
            (Purpose::Folder, opened) => {
                if opened.is_ok_and(|opened| opened.metadata.kind == FileType::Directory) {
                    self.tell_of_listings(context);
                }
                self.seek_not_found_page(context, current);
            }
            (Purpose::ErrorPage(_), Ok(opened)) if opened.metadata.kind == FileType::RegularFile => {
                self.answer_opened(context, current, opened);
            }
            (Purpose::ErrorPage(status), result) => self.on_no_page(context, current, status, result),
            (Purpose::File | Purpose::Listing, Err(error)) => self.on_failed(context, current, &error),
        }
    }

    /// What was asked for can't be opened.
    fn on_failed(&mut self, context: &mut Context, current: &Current<'_>, error: &io::Error) {
        if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) {
            context.files.shed_descriptors();
        }
        let status = status_of(error);
        if status != Status::NotFound {
            self.tell_fault(context, format_args!("can't be served: {error}"));
        }
        self.seek_error_page(context, current, status);
    }

    /// Says what is wrong with the file that is or was to be opened.
    #[cold]
    pub(crate) fn tell_fault(&self, context: &Context, fault: fmt::Arguments<'_>) {
        self.open.site().tell_fault(context.now(), self.open.path_bytes(), fault);
    }

    /// The path is that of a directory, without the slash behind it.
    fn on_directory(&mut self, context: &mut Context, current: &Current<'_>) {
        if self.seek_page(context, current, Instead::Directory) {
            return;
        }
        if self.rewrite.is_none() {
            return self.answer_redirect(context, current);
        }
        // The address stays the one that was asked for.
        self.directory = true;
        self.purpose = Purpose::File;
        self.look_up_file(context, current);
    }

    /// There is no index, perhaps because there is no such directory: what the rules say counts; else it is listed if that
    /// is wanted.
    fn on_no_index(&mut self, context: &mut Context, current: &Current<'_>) {
        if self.seek_page(context, current, Instead::Index) {
            return;
        }
        if let Some(rewrite) = self.rewrite {
            return self.on_no_target(context, current, rewrite);
        }
        if let Some(redirect) = self.find_redirect(context, current) {
            return self.carry_out(context, current, &redirect);
        }
        let open = unshared(&mut self.open, context);
        if context.files.site().options().listing {
            let query = &current.request.target(current.head)[self.query.clone()];
            let view = View::of(query, Request::values(current.head, "Accept"));
            open.set_listing(context.files.site(), &self.path, view);
            self.purpose = Purpose::Listing;
            self.missing = Missing::File;
        } else if context.files.site().options().spa {
            self.on_missing(context, current);
        } else if context.unlisted.as_ref().is_some_and(|notice| notice.is_due()) {
            open.set_file(context.files.site(), &self.path, b"");
            self.purpose = Purpose::Folder;
            self.missing = Missing::File;
        } else {
            self.seek_not_found_page(context, current);
        }
    }

    fn tell_of_listings(&self, context: &Context) {
        let mut path = vec![b'/'];
        target::encode(&self.path, &mut path);
        if path.len() > 1 {
            path.push(b'/');
        }
        if let Some(notice) = &context.unlisted {
            notice.give(&String::from_utf8_lossy(&path));
        }
    }

    /// Where the site's own page for an error was looked for, there is none.
    fn on_no_page(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        status: Status,
        result: io::Result<Opened>,
    ) {
        let is_elsewhere = match result {
            Ok(_) => true,
            Err(error) => {
                let own = status_of(&error);
                if own != Status::NotFound {
                    self.tell_fault(context, format_args!("can't be served: {error}"));
                }
                matches!(own, Status::NotFound | Status::Forbidden)
            }
        };
        if status == Status::NotFound && is_elsewhere {
            self.seek_further(context, current);
        } else {
            self.answer_error(context, current, status);
        }
    }

    /// The bytes that the cache wants of a file, where those are missing.
    pub(crate) fn missing_bytes(&self) -> Option<FileRange<'_>> {
        match &self.missing {
            Missing::Bytes(cached) => match &cached.source {
                Source::File(file) => Some(FileRange { file, offset: 0, length: cached.metadata.size }),
                Source::Memory(_) => None,
            },
            Missing::Nothing | Missing::File => None,
        }
    }

    /// The file for the cache was read, as far as it went.
    pub(crate) fn read(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        result: io::Result<FileBytes>,
    ) {
        let Missing::Bytes(cached) = std::mem::take(&mut self.missing) else { return };
        let path = self.open.path_bytes();
        let source = match result {
            Ok(bytes) if bytes.len() as u64 == cached.metadata.size => {
                Source::Memory(context.files.keep_bytes(path, &cached, bytes))
            }
            // It has shrunk or can't be read: it will fail as it does without a cache.
            short => {
                if let Err(error) = short {
                    self.tell_fault(context, format_args!("can't be read: {error}"));
                }
                context.files.forget(path);
                cached.source.clone()
            }
        };
        if let (Purpose::Variant(_), Some(variant)) = (self.purpose, &cached.as_variant) {
            self.answer_variant(context, current, Found::of(variant, source));
        } else if let Source::Memory(bytes) = &source
            && self.negotiates(current, &cached)
        {
            // It may have been compressed before it left the cache, which is known by its bytes.
            let cached = cached.with_bytes(Arc::clone(bytes));
            self.negotiate(context, current, cached.metadata, cached.form, source, Some(Arc::new(cached)));
        } else {
            self.answer_found(context, current, Found::of(&cached, source));
        }
    }

    /// A regular file was opened: answers with it, and lets it into the cache if it is worth it.
    fn answer_opened(&mut self, context: &mut Context, current: &Current<'_>, opened: Opened) {
        let Opened { file, metadata, examined, .. } = opened;
        let file = context.files.share(file);
        let examined = examined.unwrap_or(context.now());
        let path = self.open.path_bytes();
        let source = Source::File(file);
        if let Source::File(file) = &source
            && let Some(cached) = context.files.admit(path, file, metadata, examined, context.moment())
        {
            context.files.release_source(source);
            return self.answer_cached(context, current, cached);
        }
        let media_type = context.files.media_type(path);
        let varies = context.files.site().options().compress.applies_to(media_type);
        let form = Form { media_type, coding: None, varies };
        if varies && current.request.negotiates_codings() && self.sends_file() {
            return self.negotiate(context, current, metadata, form, source, None);
        }
        self.answer_found(context, current, Found { metadata: &metadata, form, source, cached: None });
    }

    /// Whether the answer is a file as such, and not a page for an error.
    #[inline]
    fn sends_file(&self) -> bool {
        self.purpose == Purpose::File && self.rewrite.is_none_or(|rewrite| rewrite.status == Status::Ok)
    }

    #[inline]
    fn answer_found(&mut self, context: &mut Context, current: &Current<'_>, found: Found<'_>) {
        match (self.purpose, self.rewrite) {
            (Purpose::ErrorPage(status), _) => {
                self.answer_error_page(context, current, status, MediaType::HTML, found);
            }
            (_, Some(Rewrite { status: status @ (Status::NotFound | Status::Gone), .. })) => {
                let media_type = found.form.media_type;
                self.answer_error_page(context, current, status, media_type, found);
            }
            _ => self.answer_file(context, current, found),
        }
    }

    /// Whether what the rules add to answers with this file is the same for this request.
    #[inline]
    fn fits(&self, cached: &CachedFile) -> bool {
        let rules = &cached.rules;
        let is_by_address = || self.directory || self.page.is_clean || !rules.depends_on_name;
        match self.rewrite {
            None => !rules.depends_on_path || is_by_address(),
            Some(rewrite) => !rules.depends_on_path && !rewrite.is_negotiated,
        }
    }

    #[inline]
    fn answer_file(&mut self, context: &mut Context, current: &Current<'_>, found: Found<'_>) {
        match found.cached {
            Some(cached) if current.request.is_unconditional() && self.fits(cached) => {
                let (etag, moment) = (context.files.site().options().etag, context.moment());
                let whole = ByteRange { start: 0, length: found.metadata.size };
                self.outgoing.note_coding(found.form.coding);
                let push_head =
                    |out: &mut Vec<u8>, general: &General| cached.push_head(out, general, etag, &moment);
                self.answer_with_body(context, current, Status::Ok, found.source, whole, push_head);
            }
            _ => self.answer_planned(context, current, found),
        }
    }

    fn answer_planned(&mut self, context: &mut Context, current: &Current<'_>, found: Found<'_>) {
        let Found { metadata, form, source, cached } = found;
        let (size, is_unconditional) = (metadata.size, current.request.is_unconditional());
        let whole = ByteRange { start: 0, length: size };
        let etag = context.files.site().options().etag;
        let additions = match cached {
            Some(cached) if self.fits(cached) => cached.rules.additions.clone(),
            _ => self.additions(context),
        };
        let representation = representation(metadata, form, additions.as_deref(), etag, &context.moment());
        let validators = &representation.validators;
        let decided = if is_unconditional {
            Plan::Whole
        } else {
            plan(current.request.method, &current.request.conditions(current.head), validators, size)
        };
        match decided {
            Plan::Whole => {
                self.outgoing.note_coding(form.coding);
                self.answer_with_body(context, current, Status::Ok, source, whole, |out, general| {
                    head::build_ok_headers(out, general, &representation);
                });
            }
            Plan::Part(range) => {
                self.answer_with_body(
                    context,
                    current,
                    Status::PartialContent,
                    source,
                    range,
                    |out, general| head::build_partial_headers(out, general, &representation, range),
                );
            }
            Plan::Parts(ranges) => self.answer_multipart(context, current, source, &ranges, &representation),
            Plan::NotModified => {
                context.files.release_source(source);
                self.answer_from_memory(context, current, Status::NotModified, 0, |out, general| {
                    head::build_not_modified(out, general, &representation);
                });
            }
            Plan::PreconditionFailed => {
                context.files.release_source(source);
                self.answer_from_memory(context, current, Status::PreconditionFailed, 0, |out, general| {
                    head::build_precondition_failed(out, general, &representation);
                });
            }
            Plan::RangeNotSatisfiable => {
                context.files.release_source(source);
                let status = Status::RangeNotSatisfiable;
                let body_bytes = head::error_body_bytes(status);
                self.answer_from_memory(context, current, status, body_bytes, |out, general| {
                    head::build_range_not_satisfiable(out, general, size);
                });
            }
        }
    }

    /// Answers with one range of a file.
    #[inline]
    fn answer_with_body(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        status: Status,
        source: Source,
        range: ByteRange,
        build: impl FnOnce(&mut Vec<u8>, &General),
    ) {
        let general = self.begin(context, current, status);
        let build = |out: &mut Vec<u8>| build(out, &general);
        let mut content_bytes = 0;
        if current.request.method == Method::Get {
            content_bytes = range.length;
            self.outgoing.append_with_body(context, build, source, range);
        } else {
            self.outgoing.append(build);
            context.files.release_source(source);
        }
        self.outgoing.end_answer(context, current, status, content_bytes);
    }

    fn answer_multipart(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        source: Source,
        ranges: &Ranges,
        representation: &Representation<'_>,
    ) {
        let general = self.begin(context, current, Status::PartialContent);
        let mut content_bytes = 0;
        self.outgoing.append(|out| {
            content_bytes = head::multipart_bytes(out, representation, ranges);
            head::build_multipart_headers(out, &general, representation, content_bytes);
        });
        for (index, range) in ranges.iter().enumerate() {
            let build = |out: &mut Vec<u8>| head::build_part_header(out, representation, *range, index == 0);
            self.outgoing.append_with_body(context, build, source.clone(), *range);
        }
        context.files.release_source(source);
        self.outgoing.append(|out| head::build_multipart_end(out, representation));
        self.outgoing.end_answer(context, current, Status::PartialContent, content_bytes);
    }

    /// Answers with the site's own page for an error.
    fn answer_error_page(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        status: Status,
        media_type: MediaType,
        found: Found<'_>,
    ) {
        let additions = self.additions(context).map(|additions| additions.for_error());
        let is_negotiated = context.files.site().options().spa && status == Status::NotFound;
        let size = found.metadata.size;
        let whole = ByteRange { start: 0, length: size };
        self.answer_with_body(context, current, status, found.source, whole, |out, general| {
            let general = General { is_negotiated, ..*general };
            head::build_own_error_headers(out, &general, status, media_type, size, additions.as_ref());
        });
    }

    fn answer_listing(&mut self, context: &mut Context, current: &Current<'_>, listing: FileBytes) {
        let media_type = match self.open.view().unwrap_or_default().format {
            Format::Html => MediaType::HTML,
            Format::Json => MediaType::JSON,
        };
        let size = listing.len() as u64;
        let whole = ByteRange { start: 0, length: size };
        let source = Source::Memory(Arc::new(listing));
        let cors = context.files.site().options().cors;
        self.answer_with_body(context, current, Status::Ok, source, whole, |out, general| {
            head::build_listing_headers(out, &General { cors, ..*general }, media_type, size);
        });
    }

    /// 301 to the same path with a slash behind it, on this host whatever the target looked like.
    fn answer_redirect(&mut self, context: &mut Context, current: &Current<'_>) {
        let mut location = vec![b'/'];
        target::encode(&self.path, &mut location);
        location.push(b'/');
        location.extend_from_slice(&current.request.target(current.head)[self.query.clone()]);
        self.answer_moved(context, current, Status::MovedPermanently, &location);
    }

    fn answer_moved(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        status: Status,
        location: &[u8],
    ) {
        self.answer_from_memory(
            context,
            current,
            status,
            head::redirect_body_bytes(status),
            |out, general| {
                head::build_redirect(out, general, status, location);
            },
        );
    }

    fn answer_error(&mut self, context: &mut Context, current: &Current<'_>, status: Status) {
        self.answer_from_memory(context, current, status, head::error_body_bytes(status), |out, general| {
            head::build_error(out, general, status);
        });
    }

    /// Answers with bytes that `build` makes; the last `body_bytes` of them are the body.
    fn answer_from_memory(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        status: Status,
        mut body_bytes: u64,
        build: impl FnOnce(&mut Vec<u8>, &General),
    ) {
        let general = self.begin(context, current, status);
        let options = context.files.site().options();
        // What files say is among what rules add.
        let cors = options.cors.filter(|_| status != Status::NotModified);
        let general = General { cors, is_negotiated: options.spa && status == Status::NotFound, ..general };
        self.outgoing.append(|out| {
            build(out, &general);
            if current.request.method == Method::Head {
                out.truncate(out.len() - usize::try_from(body_bytes).unwrap_or(0));
                body_bytes = 0;
            }
        });
        self.outgoing.end_answer(context, current, status, body_bytes);
    }

    /// Decides what becomes of the connection behind this answer, and so what its head says in general.
    #[inline]
    fn begin(&mut self, context: &mut Context, current: &Current<'_>, status: Status) -> General {
        let request = current.request;
        let keep = request.keep_alive && context.keeps_connections();
        if !keep {
            // Where the client may still be sending, a plain close could destroy the answer on its way.
            let may_send = request.keep_alive || request.expectation == Expectation::Continue;
            self.close = Some(if may_send { Close::Graceful } else { Close::Drop });
        }
        context.counts.answers[status.class() as usize] += 1;
        context.counts.errors += u64::from(status.code() >= 500);
        let persistence = match (keep, request.is_http10) {
            (false, _) => Persistence::Closing,
            (true, true) => Persistence::KeptExplicitly,
            (true, false) => Persistence::Kept,
        };
        let is_negotiated = self.rewrite.is_some_and(|rewrite| rewrite.is_negotiated);
        General { date: context.date(), persistence, cors: None, is_negotiated }
    }

    /// Answers what can't be served and ends the connection: where the next request begins isn't known.
    pub(crate) fn refuse(&mut self, context: &mut Context, current: &Current<'_>, status: Status) {
        // Where a file is missing, the request was whole, and its time goes on.
        if let Missing::Nothing = self.missing {
            self.outgoing.ask(context.now());
        }
        self.answer_error(context, current, status);
        self.close = Some(Close::Graceful);
    }

    /// There will be no more of the body.
    pub(crate) fn cut_short(&mut self, context: &mut Context) {
        self.outgoing.cut_short(context);
        self.close = Some(Close::Graceful);
    }
}

/// A file that an answer can be made of.
struct Found<'a> {
    metadata: &'a Metadata,
    form: Form,
    source: Source,
    /// Its entry in the cache.
    cached: Option<&'a CachedFile>,
}

impl<'a> Found<'a> {
    fn of(cached: &'a CachedFile, source: Source) -> Found<'a> {
        let CachedFile { metadata, form, .. } = cached;
        Found { metadata, form: *form, source, cached: Some(cached) }
    }
}

/// The request for writing; a new one if an operation in flight still reads the old one.
fn unshared<'a>(open: &'a mut Arc<OpenRequest>, context: &Context) -> &'a mut OpenRequest {
    if Arc::get_mut(open).is_none() {
        *open = Arc::new(OpenRequest::new(Arc::clone(context.files.site())));
    }
    Arc::get_mut(open).expect("a request that was just made has one owner")
}
