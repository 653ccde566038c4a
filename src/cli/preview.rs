//! `allclear templates preview`: mails as files, and a page that shows them side by side.

use super::Context;
use super::failure::{CONFLICT, FOUND_PROBLEMS, Failure, NOT_FOUND, USAGE};
use super::templates::write;
use crate::domain::id::DeliveryId;
use crate::flow::compose::{self, Frozen};
use crate::flow::setting::Setting;
use crate::flow::specimen::{self, Specimen};
use crate::store::copies;
use crate::template::{Mail, Page, Reader, Templates};
use handlebars::html_escape;
use std::fmt::Write;
use std::path::PathBuf;

/// How the page begins; a file that begins otherwise is somebody else's.
const MARK: &str = "<!DOCTYPE html>\n<!-- allclear templates preview -->\n";

const HEAD: &str = "<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Mails</title><style>
body { margin: 24px; font: 15px/1.5 system-ui, sans-serif; color: #1d2129; background: #fdfdfd }
h2 { margin: 40px 0 4px; font-size: 18px } p { margin: 0 0 12px } div { display: flex; gap: 16px; overflow-x: auto }
iframe { flex: none; height: 720px; border: 1px solid #d9dce2 }
pre { flex: none; margin: 0; padding: 12px; height: 696px; overflow: auto; font-size: 13px; border: 1px solid #d9dce2 }
</style></head><body>
";

/// `allclear templates preview`
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  allclear templates preview --to ./mails\n  \
    allclear templates preview --to ./mails --kind correction --zone Asia/Kolkata\n  \
    allclear templates preview --to ./mails --delivery dlv_0198c0de…")]
pub(super) struct Args {
    /// The folder: each mail as .eml, .html and .txt, and index.html
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Only this kind
    #[arg(long, value_parser = Mail::KINDS)]
    kind: Option<String>,
    /// The reader's time zone
    #[arg(long, value_name = "ZONE", default_value = "Europe/Amsterdam", conflicts_with = "delivery")]
    zone: String,
    /// Your own templates [default: templates.folder of the configuration]
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
    /// Not samples, but what this delivery says, with the templates of now
    #[arg(long, value_name = "ID", conflicts_with = "kind")]
    delivery: Option<DeliveryId>,
}

pub(super) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    let folder = args.folder.as_deref().or(context.config.templates.folder.as_deref());
    let templates = Templates::overlaid(folder, &Page::of(&context.config)).map_err(|e| {
        let hint = format!("{}; `allclear templates check` lists all there is", e.hint());
        Failure::new(FOUND_PROBLEMS, format!("the templates cannot be used: {e}"), hint)
    })?;
    let mails = match args.delivery {
        Some(id) => vec![Specimen { name: id.to_string(), frozen: frozen(context, id).await? }],
        None => samples(context, args, &templates)?,
    };
    let index = args.to.join("index.html");
    if std::fs::read(&index).is_ok_and(|there| !there.starts_with(MARK.as_bytes())) {
        let what = format!("{} is no preview; nothing was written", index.display());
        return Err(Failure::new(CONFLICT, what, "name a folder of its own"));
    }
    let mut page = format!("{MARK}{HEAD}");
    for mail in &mails {
        put(args, &templates, mail, &mut page)?;
    }
    write(&index, page.as_bytes())?;
    let names: Vec<_> = mails.iter().map(|mail| &mail.name).collect();
    let json = serde_json::json!({ "index": index.display().to_string(), "mails": names });
    context.answer(&json, || format!("{} written; open {}\n", mails.len(), index.display()))?;
    Ok(0)
}

fn samples(context: &Context, args: &Args, templates: &Templates) -> Result<Vec<Specimen>, Failure> {
    if jiff::tz::TimeZone::get(&args.zone).is_err() {
        let what = format!("`{}` is no time zone", super::output::printable(&args.zone));
        return Err(Failure::new(USAGE, what, "name one like Europe/Amsterdam or UTC"));
    }
    let reader = Reader { name: None, locale: "en".to_owned(), zone: args.zone.clone() };
    let mut mails = specimen::all(&Setting::of(&context.config), templates, &reader);
    mails.retain(|mail| args.kind.as_ref().is_none_or(|kind| mail.frozen.mail.kind() == kind));
    Ok(mails)
}

async fn frozen(context: &Context, id: DeliveryId) -> Result<Frozen, Failure> {
    let store = context.store().await?;
    let text = copies::context(&mut store.read().await?, id).await?;
    text.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(|| {
        let hint = "a delivery says something from its first try until its copy is removed by age; see `allclear show`";
        Failure::new(NOT_FOUND, format!("nothing is kept of what {id} says"), hint)
    })
}

fn put(args: &Args, templates: &Templates, mail: &Specimen, page: &mut String) -> Result<(), Failure> {
    let broken = |e: String| Failure::new(FOUND_PROBLEMS, format!("{} cannot be shown: {e}", mail.name), "");
    let frozen = &mail.frozen;
    let reader = Reader { name: frozen.name.clone(), locale: frozen.locale.clone(), zone: frozen.zone.clone() };
    let rendered = templates.render(&frozen.mail, &reader).map_err(|e| broken(e.to_string()))?;
    let whole = compose::bytes(frozen, templates).map_err(|e| broken(e.to_string()))?;
    let file = |kind: &str| format!("{}.{kind}", mail.name);
    for (kind, bytes) in [("eml", &whole[..]), ("html", rendered.html.as_bytes()), ("txt", rendered.text.as_bytes())] {
        write(&args.to.join(file(kind)), bytes)?;
    }
    let (html, eml) = (file("html"), file("eml"));
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<h2>{}</h2>\n<p>{}<br>{} · <a href=\"{eml}\">{eml}</a></p>\n<div><iframe src=\"{html}\" width=\"390\" title=\"phone\">\
         </iframe><iframe src=\"{html}\" width=\"760\" title=\"desktop\"></iframe><pre>{}</pre></div>\n",
        html_escape(&mail.name),
        html_escape(&frozen.subject),
        html_escape(&frozen.from),
        html_escape(&rendered.text),
    );
    Ok(())
}
