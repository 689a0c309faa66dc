package release.clean

import rego.v1

# Only the files of the commit are built, and no others are there.
deny contains sprintf("%v is not as in the commit", [path]) if some path, _ in input.status
