# Reads apt's sources, both formats, and prints 'SUITE URI OPTION...' for each that offers binary packages of main.
#
# Options keep the one-line format's spelling (signed-by=, trusted=, ...); architectures are left out.
# An OpenPGP key that stands inside a deb822 source goes to a file in the directory `keys`.

function option(name, value) {
    if (value != "") options = options " " name "=" value
}

function flush(    i, j, n, m, uris, suites, file, lines, line) {
    if (tolower(field["enabled"]) != "no" && (" " field["types"] " ") ~ / deb / &&
        (" " field["components"] " ") ~ / main /) {
        options = ""
        if (field["signed-by"] ~ /BEGIN PGP/) {
            file = keys "/" ++key_count ".asc"
            n = split(field["signed-by"], lines, "\n")
            for (i = 1; i <= n; i++) {
                line = lines[i]
                sub(/^[ \t]+/, "", line)
                if (line != "" || i > 1) print (line == "." ? "" : line) >file
            }
            close(file)
            field["signed-by"] = file
        }
        gsub(/[ \t\n]+/, ",", field["signed-by"])
        option("signed-by", field["signed-by"])
        option("trusted", field["trusted"])
        option("check-valid-until", field["check-valid-until"])
        option("allow-insecure", field["allow-insecure"])
        n = split(field["uris"], uris)
        m = split(field["suites"], suites)
        for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print suites[j], uris[i] options
    }
    split("", field)
    name = ""
}

FNR == 1 { flush() }

FILENAME ~ /\.sources$/ {
    if ($0 ~ /^#/) next
    if ($0 ~ /^[ \t]*$/) { flush(); next }
    if ($0 ~ /^[ \t]/) { field[name] = field[name] "\n" $0; next }
    name = tolower(substr($0, 1, index($0, ":") - 1))
    value = substr($0, index($0, ":") + 1)
    sub(/^[ \t]+/, "", value)
    sub(/[ \t]+$/, "", value)
    field[name] = value
    next
}

$1 == "deb" {
    sub(/#.*/, "")
    options = ""
    rest = $0
    sub(/^[ \t]*deb[ \t]+/, "", rest)
    if (rest ~ /^\[/) {
        list = substr(rest, 2, index(rest, "]") - 2)
        rest = substr(rest, index(rest, "]") + 1)
        n = split(list, parts)
        for (i = 1; i <= n; i++) if (parts[i] !~ /^arch[+-]?=/) options = options " " parts[i]
    }
    n = split(rest, words)
    for (i = 3; i <= n; i++) if (words[i] == "main") print words[2], words[1] options
}

END { flush() }
