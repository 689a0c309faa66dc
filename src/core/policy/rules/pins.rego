# Denies what a pipeline takes in without a pin: actions and workflows by tag or branch, images and bases without digest,
# includes that may change. For evidence of the type `pins`.
#
# A policy names publishers whose things may be unpinned, and what may be unread, in a module of its own beside this one:
#
#   package affiant.pins
#
#   import rego.v1
#
#   trusted contains "actions"
#   trusted contains "docker.io/library"
#   unread contains "jenkins"
#
# cilock takes one module for each package: there the sets are changed in a copy of this one.
package affiant.pins

import rego.v1

# Publishers, as the evidence names them: the owner of an action, registry and namespace of an image, a GitLab project.
trusted contains publisher if some publisher in []

# Kinds of gaps that may stand: `jenkins`, `unsupported`, `elsewhere`, ….
unread contains kind if some kind in []

deny contains msg if {
	count(input.files) == 0
	msg := "no file of the pipeline was looked at, so nothing says that it is pinned"
}

deny contains msg if {
	some gap in object.get(input, "gaps", [])
	not gap.kind in unread
	msg := sprintf("%s%s", [place(gap), gap.reason])
}

deny contains msg if {
	some pin in input.pins
	pin.pinned != true
	not object.get(pin, "publisher", "") in trusted
	msg := sprintf("%s%s is not pinned%s: %s", [place(pin), pin.reference, because(pin), advice(pin)])
}

place(at) := sprintf("%s:%d: ", [at.file, at.line]) if {
	object.get(at, "line", 0) > 0
} else := sprintf("%s: ", [object.get(at, "file", "")]) if {
	object.get(at, "file", "") != ""
} else := ""

because(pin) := sprintf(" (%s)", [pin.why]) if {
	object.get(pin, "why", "") != ""
} else := sprintf(" (with its variables it is %s)", [pin.expanded]) if {
	object.get(pin, "expanded", "") != ""
} else := ""

advice(pin) := "it is known only when the pipeline runs; write it out, with its commit or digest" if {
	object.get(pin, "dynamic", false) == true
} else := "write its commit" if {
	pin.kind in {"action", "workflow", "context"}
} else := "write its digest (`@sha256:…`)" if {
	pin.kind in {"image", "base", "frontend"}
} else := "write its commit as `ref`, its digest as `integrity`, or take it into the repository"
