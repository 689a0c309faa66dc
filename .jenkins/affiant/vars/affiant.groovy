/**
 * Wraps a shell script in signed evidence; a step for a shared library.
 *
 *   affiant(step: 'docker-build', attestations: 'environment git jenkins docker',
 *           key: 'env:SIGNING_KEY', command: 'docker build --pull -t "$IMAGE" .')
 *
 * Further members: `outfile`, `folder`, `args` (a list of options of `affiant run`), `binary`. Archive, spool and envelopes
 * are in `folder`, which is `affiant` below the folder of temporary files if it is not named. The path of the envelope is
 * returned; the envelopes in `folder` and the test report are kept with the build.
 */
def call(Map options) {
    def known = ['step', 'command', 'attestations', 'key', 'outfile', 'folder', 'args', 'binary']
    // Loops: not every version of Jenkins calls the closures of a list's methods.
    for (member in options.keySet()) {
        if (!(member in known)) {
            error("affiant: the member `${member}` is not known (known: ${known.join(', ')})".toString())
        }
    }
    for (member in ['step', 'command']) {
        if (!options[member]) {
            error("affiant: the member `${member}` is needed".toString())
        }
    }
    def folder = options.folder ?: "${pwd(tmp: true)}/affiant"
    def name = options.step.toString().replaceAll('[^A-Za-z0-9._-]', '-')
    def outfile = (options.outfile ?: "${folder}/${name}.att.json").toString()
    // Text reaches the shell as variables only: nothing in it is expanded before it is a word.
    def words = ["AFFIANT_STEP=${options.step}",
                 "AFFIANT_OUTFILE=${outfile}",
                 "AFFIANT_HOME=${folder}",
                 "AFFIANT_JUNIT=${folder}/${name}.junit.xml",
                 "AFFIANT_WRAPPED=${options.command}",
                 "AFFIANT_PROGRAM=${options.binary ?: 'affiant'}"]
    if (options.attestations) {
        words << "AFFIANT_ATTESTATIONS=${options.attestations}"
    }
    if (options.key) {
        words << "AFFIANT_KEY=${options.key}"
    }
    def args = ''
    for (word in (options.args ?: [])) {
        args += " '" + word.toString().replace("'", "'\\''") + "'"
    }
    try {
        withEnv(words) {
            sh(label: "affiant ${options.step}", script: """#!/bin/sh
                set -eu
                mkdir -p "\$AFFIANT_HOME"
                wrapped=\$AFFIANT_WRAPPED program=\$AFFIANT_PROGRAM junit=\$AFFIANT_JUNIT
                unset AFFIANT_WRAPPED AFFIANT_PROGRAM AFFIANT_JUNIT
                # The folder outlives a build: what an earlier one left is not of this step.
                rm -f -- "\$junit" "\$AFFIANT_OUTFILE" "\$AFFIANT_OUTFILE"-*.json
                exec "\$program" run --report "junit=\$junit"${args} -- sh -e -c "\$wrapped"
            """)
        }
    } finally {
        // Both take paths of the folder that they are in only.
        dir(folder.toString()) {
            junit(testResults: "${name}.junit.xml", allowEmptyResults: true)
            archiveArtifacts(artifacts: "${name}.att.json*", allowEmptyArchive: true)
        }
    }
    return outfile
}
