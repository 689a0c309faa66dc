//! `${{ … }}` in an action, as far as it is a name. Nothing else is evaluated, so nothing else is guessed.

use super::metadata::is_name;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `inputs.NAME`, in lower case.
    Input(String),
    /// `github.action_path`.
    ActionPath,
    /// `github.token`.
    Token,
    /// A member of `github` or `runner` that the job has as this variable.
    Variable(String),
    /// `steps.ID.outputs.NAME`.
    Output(String, String),
}

/// Members of `github` that a job has as variables (`GITHUB_…`).
const GITHUB: [&str; 21] = [
    "actor",
    "actor_id",
    "api_url",
    "base_ref",
    "event_name",
    "graphql_url",
    "head_ref",
    "job",
    "ref",
    "ref_name",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "workflow",
    "workspace",
];
/// Members of `runner` that a job has as variables (`RUNNER_…`).
const RUNNER: [&str; 4] = ["arch", "os", "temp", "tool_cache"];

/// What an expression names; `None` for every other one.
pub fn reference(expression: &str) -> Option<Reference> {
    let parts: Vec<&str> = expression.trim().split('.').collect();
    if !parts.iter().all(|part| is_name(part)) {
        return None;
    }
    let lower: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match lower[..] {
        ["inputs", name] => Some(Reference::Input(name.to_owned())),
        ["github", "action_path"] => Some(Reference::ActionPath),
        ["github", "token"] => Some(Reference::Token),
        ["github", name] if GITHUB.contains(&name) => {
            Some(Reference::Variable(format!("GITHUB_{}", name.to_ascii_uppercase())))
        }
        ["runner", name] if RUNNER.contains(&name) => {
            Some(Reference::Variable(format!("RUNNER_{}", name.to_ascii_uppercase())))
        }
        ["steps", _, "outputs", _] => Some(Reference::Output(parts[1].to_owned(), parts[3].to_owned())),
        _ => None,
    }
}

/// A text with each `${{ … }}` replaced by what `of` gives for it. The error is a lower-case fragment.
pub fn expand(text: &str, of: &dyn Fn(&Reference) -> Result<String, String>) -> Result<String, String> {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("${{") {
        let (expression, after) = behind.split_once("}}").ok_or("`${{` is not closed")?;
        let known = reference(expression).ok_or_else(|| {
            let shown: String = expression.trim().chars().take(100).collect();
            format!("the expression `${{{{ {shown} }}}}` is not evaluated here")
        })?;
        expanded.push_str(before);
        expanded.push_str(&of(&known)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_expanded_and_nothing_else() {
        let of = |reference: &Reference| Ok(format!("<{reference:?}>"));
        assert_eq!(expand("a ${{ inputs.Who }}b${{github.action_path}}", &of).as_deref(), {
            Ok("a <Input(\"who\")>b<ActionPath>")
        });
        assert_eq!(expand("${{ github.sha }}", &of).as_deref(), Ok("<Variable(\"GITHUB_SHA\")>"));
        assert_eq!(expand("${{ steps.a.outputs.b-c }}", &of).as_deref(), Ok("<Output(\"a\", \"b-c\")>"));
        // What comes out is not looked at again.
        assert_eq!(expand("${{ inputs.a }}", &|_| Ok("${{ x }}".to_owned())).as_deref(), Ok("${{ x }}"));
        for text in [
            "${{ secrets.X }}",
            "${{ github.event.issue.title }}",
            "${{ inputs.a || 'b' }}",
            "${{ inputs['a'] }}",
            "${{ format('{0}', inputs.a) }}",
            "${{ }}",
            "${{ env.A }}",
        ] {
            assert!(expand(text, &of).is_err_and(|reason| reason.contains("is not evaluated here")), "{text}");
        }
        assert!(expand("${{ inputs.a", &of).is_err());
        assert_eq!(expand("$ {{ a }}", &of).as_deref(), Ok("$ {{ a }}"));
    }
}
