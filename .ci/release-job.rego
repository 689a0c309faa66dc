package release.job

import rego.v1

repository := "OWNER/affiant"

deny contains "the job is not proven" if not input.jwt

deny contains "not by GitHub's keys" if {
	input.jwt.verifiedBy.jwksUrl != "https://token.actions.githubusercontent.com/.well-known/jwks"
}

deny contains sprintf("made in %v on %v", [input.jwt.claims.repository, input.jwt.claims.ref]) if {
	[input.jwt.claims.repository, input.jwt.claims.ref] != [repository, "refs/heads/main"]
}

deny contains sprintf("made by the workflow %v", [input.jwt.claims.job_workflow_ref]) if {
	input.jwt.claims.job_workflow_ref != sprintf("%v/.github/workflows/release.yml@refs/heads/main", [repository])
}

# What ran on somebody's own machine is not what the provider promises.
deny contains sprintf("made on a runner that is %v", [input.jwt.claims.runner_environment]) if {
	input.jwt.claims.runner_environment != "github-hosted"
}
