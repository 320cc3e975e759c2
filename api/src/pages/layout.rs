//! What surrounds every page.

use std::fmt;

use askama::{Template, filters::HtmlSafe};
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse, Response},
};
use buildit_shared::permission::Permission;
use jiff::Timestamp;

use super::{assets, status};
use crate::{
    auth::{Caller, form},
    error::ApiError,
};

/// The frame of a page.
pub(super) struct Layout {
    /// In the tab, before the product's name.
    pub(super) title: String,
    /// The status that the tab's icon shows.
    icon: &'static str,
    /// Which of the bar's links leads here.
    pub(super) section: &'static str,
    /// Who looks at it; nobody on pages for strangers.
    pub(super) who: Option<String>,
    /// The organization that a person looks at.
    pub(super) organization: Option<String>,
    pub(super) may_set_secrets: bool,
    /// Whether they manage the organization.
    pub(super) may_manage: bool,
    /// What forms show in their field `csrf`; nothing for keys, which send no forms.
    pub(super) csrf: Option<String>,
    /// The stream that says when the page is to be read again.
    pub(super) stream: Option<String>,
    /// Whether it takes the whole width.
    pub(super) is_wide: bool,
    pub(super) now: Timestamp,
}

impl Layout {
    /// A page for somebody.
    pub(super) fn of(caller: &Caller, section: &'static str, title: impl Into<String>) -> Self {
        Self {
            section,
            who: Some(caller.name()),
            organization: caller
                .person()
                .and_then(|person| person.organization.as_ref())
                .map(|organization| organization.name.clone()),
            may_set_secrets: caller.has(Permission::SecretsWrite),
            may_manage: caller.has(Permission::OrgAdmin) && caller.scope().project.is_none(),
            csrf: caller.person().map(|person| person.csrf_token().to_owned()),
            ..Self::plain(title)
        }
    }

    /// A page for anybody.
    pub(super) fn plain(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            icon: "none",
            section: "",
            who: None,
            organization: None,
            may_set_secrets: false,
            may_manage: false,
            csrf: None,
            stream: None,
            is_wide: false,
            now: Timestamp::now(),
        }
    }

    pub(super) fn live(self, stream: String) -> Self {
        Self { stream: Some(stream), ..self }
    }

    pub(super) fn wide(self) -> Self {
        Self { is_wide: true, ..self }
    }

    pub(super) fn with_icon(self, status: &'static str) -> Self {
        Self { icon: status, ..self }
    }

    pub(super) fn icon(&self) -> &'static str {
        assets::address(status::icon_file(self.icon))
    }

    pub(super) fn asset(&self, name: &str) -> &'static str {
        assets::address(name)
    }

    pub(super) fn logo(&self) -> &'static str {
        status::LOGO
    }

    /// The field that every form for somebody who is signed in begins with.
    pub(super) fn field(&self) -> Field<'_> {
        Field(self.csrf.as_deref())
    }

    pub(super) fn is(&self, section: &str) -> bool {
        self.section == section
    }
}

/// See [`crate::auth::form`].
pub(super) struct Field<'a>(Option<&'a str>);

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // Letters, digits, dashes: nothing to escape.
            Some(token) => write!(f, "<input type=\"hidden\" name=\"{}\" value=\"{token}\">", form::FIELD),
            None => Ok(()),
        }
    }
}

impl HtmlSafe for Field<'_> {}

/// A page as an answer.
pub(super) fn page(template: &impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

pub(super) fn page_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}
