//! Who built: by the evidence of the CI, spelled as the provider's own provenance spells it.

use affiant_core::attestor::Whole;
use serde_json::{Value, json};

/// Where no CI is known: somebody with the signing key. `docs/reference/slsa.md` describes it.
const LOCAL: &str = "urn:affiant:slsa:builder:local:1";

/// The builder, and the run of it.
pub(super) struct Builder {
    pub(super) id: String,
    /// URL of the run.
    pub(super) invocation: Option<String>,
    /// Where the id comes from, and whether it is proven.
    pub(super) identity: Value,
}

struct Found {
    id: String,
    invocation: Option<String>,
    source: &'static str,
    /// Why it is not proven; `None` where it is.
    unproven: Option<String>,
    /// Whose token proves it.
    issuer: Option<String>,
}

/// The builder that the user named, else what a proven token says, else what variables say.
pub(super) fn find(world: &Whole<'_>, named: Option<&str>) -> Builder {
    let found = [github(world), gitlab(world), jenkins(world)].into_iter().flatten();
    let best = found.min_by_key(|one| one.unproven.is_some());
    let (invocation, mut identity) = match &best {
        Some(best) => {
            let mut identity = json!({ "source": best.source, "verified": best.unproven.is_none() });
            if let Some(reason) = &best.unproven {
                identity["reason"] = reason.as_str().into();
            } else if let Some(issuer) = &best.issuer {
                identity["issuer"] = issuer.as_str().into();
            }
            (best.invocation.clone(), identity)
        }
        None => (None, json!({ "source": "none", "verified": false, "reason": "no CI is known here" })),
    };
    if named.is_some() {
        identity = json!({ "source": "option", "verified": false, "reason": "the option builder-id names it" });
    }
    let id = named.map(|id| world.masked(id)).or(best.map(|best| best.id));
    Builder { id: id.unwrap_or_else(|| LOCAL.to_owned()), invocation, identity }
}

/// The evidence of a CI: its texts, and the claims of its token where they are proven.
struct Evidence<'a> {
    predicate: &'a Value,
    claims: Option<&'a Value>,
}

impl<'a> Evidence<'a> {
    fn of(world: &'a Whole<'_>, attestor: &str) -> Option<Self> {
        let predicate = world.predicate(attestor)?;
        let verified = predicate.pointer("/affiant/verified").and_then(Value::as_bool) == Some(true);
        Some(Self { predicate, claims: predicate.pointer("/jwt/claims").filter(|_| verified) })
    }

    /// A text of the predicate that is not empty.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.predicate.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn claim(&self, name: &str) -> Option<String> {
        match self.claims?.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Why what the claims do not say is not proven.
    fn reason(&self, claim: &str) -> String {
        let said = self.predicate.pointer("/affiant/reason").and_then(Value::as_str);
        said.map_or_else(
            || format!("the job's identity token says no `{claim}`, or is of another server"),
            str::to_owned,
        )
    }
}

/// `<server>/<owner>/<repository>/<path of the workflow>@<ref>`, the workflow that holds the job: GitHub's own
/// provenance names it so.
fn github(world: &Whole<'_>) -> Option<Found> {
    let evidence = Evidence::of(world, "github")?;
    let server = evidence.text("ciserverurl")?.trim_end_matches('/');
    let variable = |name: &str| world.before.env.get(name).filter(|value| !value.is_empty()).map(|v| world.masked(v));
    let proven = evidence.claim("job_workflow_ref");
    let unproven = proven.is_none().then(|| evidence.reason("job_workflow_ref"));
    let workflow = proven.or_else(|| variable("GITHUB_WORKFLOW_REF"))?;
    let attempt = evidence.claim("run_attempt").or_else(|| variable("GITHUB_RUN_ATTEMPT"));
    let run = evidence.text("pipelineurl").map(|run| match attempt {
        Some(attempt) => format!("{run}/attempts/{attempt}"),
        None => run.to_owned(),
    });
    let issuer = evidence.claim("iss");
    Some(Found { id: format!("{server}/{workflow}"), invocation: run, source: "github", unproven, issuer })
}

/// `<project>/-/runners/<id>`, as GitLab's runner names itself in its provenance.
fn gitlab(world: &Whole<'_>) -> Option<Found> {
    let evidence = Evidence::of(world, "gitlab")?;
    let project = evidence.text("projecturl")?;
    // A server proves its own addresses only: another issuer may have been named by an option.
    let server = evidence.text("ciserverurl").unwrap_or_default().trim_end_matches('/');
    let issuer = evidence.claim("iss").filter(|issuer| issuer.trim_end_matches('/') == server);
    let proven = evidence.claim("runner_id").filter(|_| issuer.is_some() && evidence.claim("project_path").is_some());
    let unproven = proven.is_none().then(|| evidence.reason("runner_id"));
    let id = match proven.or_else(|| evidence.text("runnerid").map(str::to_owned)) {
        Some(runner) => format!("{project}/-/runners/{runner}"),
        None => server.to_owned(),
    };
    let run = evidence.text("joburl").or_else(|| evidence.text("pipelineurl")).map(str::to_owned);
    Some(Found { id, invocation: run, source: "gitlab", unproven, issuer })
}

/// The URL of the server.
fn jenkins(world: &Whole<'_>) -> Option<Found> {
    let evidence = Evidence::of(world, "jenkins")?;
    let id = evidence.text("jenkinsurl")?.to_owned();
    let invocation = evidence.text("pipelineurl").map(str::to_owned);
    Some(Found { id, invocation, source: "jenkins", unproven: Some(evidence.reason("")), issuer: None })
}
