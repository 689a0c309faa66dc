/**
 * Wraps a shell script in signed evidence; a step for a shared library.
 *
 *   affiant(step: 'docker-build', attestations: 'environment git jenkins docker',
 *           key: 'env:SIGNING_KEY', command: 'docker build --pull -t "$IMAGE" .')
 *
 * Further members are those of `affiant run`: `outfile`, `archive`, `args` (a list). The evidence is in `evidence` below
 * the folder of the build's temporary files; the envelope is returned, and archived with the build.
 */
def call(Map options) {
    def known = ['step', 'command', 'attestations', 'key', 'outfile', 'folder', 'args', 'binary']
    def unknown = options.keySet().find { !(it in known) }
    if (unknown) {
        error "affiant: the member `${unknown}` is not known (known: ${known.join(', ')})"
    }
    ['step', 'command'].each {
        if (!options[it]) {
            error "affiant: the member `${it}` is needed"
        }
    }
    def folder = options.folder ?: "${pwd(tmp: true)}/affiant"
    def outfile = options.outfile ?: "${folder}/${options.step.replaceAll('[^A-Za-z0-9._-]', '-')}.att.json"
    // Text reaches the shell as variables only: nothing in it is expanded before it is a word.
    def words = ["AFFIANT_STEP=${options.step}",
                 "AFFIANT_OUTFILE=${outfile}",
                 "AFFIANT_HOME=${folder}",
                 "AFFIANT_WRAPPED=${options.command}",
                 "AFFIANT_PROGRAM=${options.binary ?: 'affiant'}"]
    if (options.attestations) {
        words << "AFFIANT_ATTESTATIONS=${options.attestations}"
    }
    if (options.key) {
        words << "AFFIANT_KEY=${options.key}"
    }
    def args = (options.args ?: []).collect { "'" + it.toString().replace("'", "'\\''") + "'" }.join(' ')
    try {
        withEnv(words) {
            sh(label: "affiant ${options.step}", script: """#!/bin/sh
                set -eu
                mkdir -p "\$AFFIANT_HOME"
                wrapped=\$AFFIANT_WRAPPED program=\$AFFIANT_PROGRAM
                unset AFFIANT_WRAPPED AFFIANT_PROGRAM
                exec "\$program" run --report "junit=\$AFFIANT_HOME/junit.xml" ${args} -- sh -e -c "\$wrapped"
            """)
        }
    } finally {
        junit(testResults: "${folder}/junit.xml", allowEmptyResults: true)
    }
    return outfile
}
