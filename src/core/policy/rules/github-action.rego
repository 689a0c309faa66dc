# Denies a GitHub action that ran without a pin. For evidence of cilock's type `github-action`.
#
# A policy names owners whose actions may be unpinned in a module of its own beside this one:
#
#   package affiant.github_action
#
#   import rego.v1
#
#   trusted contains "actions"
package affiant.github_action

import rego.v1

# Owners of actions.
trusted contains owner if some owner in []

deny contains msg if {
	input.refpinned != true
	owner := split(input.actionref, "/")[0]
	not owner in trusted
	msg := sprintf("the action %s is not pinned: write its commit", [input.actionref])
}
