//! Content negotiation: which of the forms that a file is there in a client is sent.

use std::io;
use std::sync::Arc;

use rustix::fs::FileType;

use super::{Found, Missing, Purpose, Responder, unshared};
use crate::http::accept_encoding::{Coding, Codings, acceptable};
use crate::http::head::Form;
use crate::http::request::{Method, Request};
use crate::http::status::Status;
use crate::machine::context::Context;
use crate::machine::reader::Current;
use crate::site::cache::{CachedFile, Source};
use crate::site::file::Metadata;
use crate::site::files::Lookup;
use crate::site::open::{Opened, status_of};
use crate::site::variants::is_fresh;

/// A file that is to be answered with, in the best coding that there is.
#[derive(Debug)]
pub(super) struct Whole {
    metadata: Metadata,
    form: Form,
    source: Source,
    cached: Option<Arc<CachedFile>>,
    /// The codings that weren't tried yet, the best last.
    codings: Codings,
}

impl Responder {
    /// Looks for the file in the codings that the client accepts.
    pub(super) fn negotiate(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        metadata: Metadata,
        form: Form,
        source: Source,
        cached: Option<Arc<CachedFile>>,
    ) {
        let mut codings = match current.request.accept_encoding(current.head) {
            Some(value) => context.recent_codings.acceptable(value),
            None => acceptable(Request::values(current.head, "Accept-Encoding")),
        };
        codings.reverse();
        self.whole_path.clear();
        self.whole_path.extend_from_slice(self.open.path_bytes());
        self.whole = Some(Whole { metadata, form, source, cached, codings });
        self.seek_variant(context, current);
    }

    /// Tries the next coding, or answers with the file as it is.
    fn seek_variant(&mut self, context: &mut Context, current: &Current<'_>) {
        while let Some(whole) = &mut self.whole
            && let Some(coding) = whole.codings.pop()
        {
            let variants = whole.cached.as_ref().and_then(|cached| cached.variants.as_ref());
            if !variants.is_some_and(|variants| variants.lacks(coding))
                && self.look_up_sidecar(context, current, coding)
            {
                return;
            }
            if self.answer_compressed(context, current, coding) {
                return;
            }
        }
        self.purpose = Purpose::File;
        let Some(Whole { metadata, form, source, cached, .. }) = self.whole.take() else { return };
        let Some(cached) = cached else {
            return self.answer_found(
                context,
                current,
                Found { metadata: &metadata, form, source, cached: None },
            );
        };
        context.files.release_source(source);
        if cached.wants_bytes {
            // That they are kept is noted under the path.
            unshared(&mut self.open, context).set_file(context.files.site(), &self.whole_path, b"");
        }
        self.answer_with_cached(context, current, cached);
    }

    /// Looks for a file beside the other that holds it in this coding. False if there is none, or an old one.
    fn look_up_sidecar(&mut self, context: &mut Context, current: &Current<'_>, coding: Coding) -> bool {
        let open = unshared(&mut self.open, context);
        open.set_sidecar(context.files.site(), &self.whole_path, coding);
        self.purpose = Purpose::Variant(coding);
        let Lookup::Hit(cached) = context.files.cached(self.open.path_bytes(), context.now()) else {
            self.missing = Missing::File;
            return true;
        };
        self.answer_cached_sidecar(context, current, cached)
    }

    /// Answers with a file beside the other, if it is as new.
    fn answer_cached_sidecar(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        cached: Arc<CachedFile>,
    ) -> bool {
        let Some(variant) = &cached.as_variant else { return false };
        if !self.whole.as_ref().is_some_and(|whole| is_fresh(&cached.metadata, &whole.metadata)) {
            return false;
        }
        if cached.wants_bytes && current.request.method == Method::Get {
            self.missing = Missing::Bytes(cached);
        } else {
            self.answer_variant(context, current, Found::of(variant, variant.source.clone()));
        }
        true
    }

    /// Answers with what the file was compressed to, if it was.
    fn answer_compressed(&mut self, context: &mut Context, current: &Current<'_>, coding: Coding) -> bool {
        let whole = self.whole.as_ref().and_then(|whole| whole.cached.as_ref());
        let made = whole
            .and_then(|cached| context.files.compressed(&self.whole_path, cached, coding, &context.moment()));
        if let Some(made) = &made {
            self.answer_variant(context, current, Found::of(made, made.source.clone()));
        }
        made.is_some()
    }

    pub(super) fn answer_variant(&mut self, context: &mut Context, current: &Current<'_>, found: Found<'_>) {
        self.purpose = Purpose::File;
        if let Some(whole) = self.whole.take() {
            context.files.release_source(whole.source);
        }
        self.answer_found(context, current, found);
    }

    /// The open of a file that may be beside the other has ended.
    pub(super) fn on_variant(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        coding: Coding,
        result: io::Result<Opened>,
    ) {
        let is_answered = match result {
            Ok(opened) if opened.metadata.kind == FileType::RegularFile => {
                self.answer_sidecar(context, current, coding, opened)
            }
            result => {
                let whole = self.whole.as_ref().and_then(|whole| whole.cached.as_ref());
                // Not for want of descriptors, or because of a bad disk.
                let fault = result.err().filter(|error| status_of(error) != Status::NotFound);
                let is_absent = fault.is_none();
                if let Some(error) = fault {
                    self.tell_fault(context, format_args!("can't be served: {error}"));
                }
                if is_absent && let Some(variants) = whole.and_then(|cached| cached.variants.as_ref()) {
                    variants.note_absence(coding);
                }
                false
            }
        };
        if !is_answered && !self.answer_compressed(context, current, coding) {
            self.seek_variant(context, current);
        }
    }

    /// Answers with a file beside the other that was opened, if it is as new, and lets it into the cache if it is worth
    /// it.
    fn answer_sidecar(
        &mut self,
        context: &mut Context,
        current: &Current<'_>,
        coding: Coding,
        opened: Opened,
    ) -> bool {
        let Opened { file, metadata, examined, .. } = opened;
        let file = context.files.share(file);
        let examined = examined.unwrap_or(context.now());
        let path = self.open.path_bytes();
        if let Some(cached) = context.files.admit(path, &file, metadata, examined, context.moment()) {
            context.files.release_source(Source::File(file));
            return self.answer_cached_sidecar(context, current, cached);
        }
        let source = Source::File(file);
        match &self.whole {
            Some(whole) if is_fresh(&metadata, &whole.metadata) => {
                let form = Form { coding: Some(coding), ..whole.form };
                self.answer_variant(
                    context,
                    current,
                    Found { metadata: &metadata, form, source, cached: None },
                );
                true
            }
            _ => {
                context.files.release_source(source);
                false
            }
        }
    }
}
