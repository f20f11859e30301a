#!/bin/sh
# Commits the update to the template's newest version on a branch of its own, and prints the
# branch's name; without a newer version it prints nothing. Conflicts are marked in the files, and
# listed in the commit message, as are the files that are gone, and a uv.lock that uv could not
# bring up to date.
set -eu

answers=.copier-answers.yml
if copier check-update --quiet --answers-file "$answers"; then
    exit
elif [ $? -ne 2 ]; then
    exit 1
fi

copier update --defaults --quiet --answers-file "$answers" >&2

stale=
if [ -f uv.lock ] && ! git diff --quiet HEAD -- pyproject.toml; then
    uv lock --quiet --no-build >&2 || stale=uv.lock
fi

list() {
    [ -z "$2" ] || printf '\n%s\n\n```text\n%s\n```\n' "$1" "$2"
}

version=$(sed -n 's/^_commit: //p' "$answers")
# Paths are from the repository's top, and spelt out: git would quote some and cut others.
git_here() {
    git -c core.quotePath=false "$@"
}
marked=$(git_here grep --full-name --untracked --files-with-matches --extended-regexp \
    '^(<<<<<<< before|>>>>>>> after) updating$' || true)
deleted=$(git_here diff --no-relative --name-only --diff-filter=D HEAD -- .)
git switch --quiet --create "template-$version"
git add --all
git commit --quiet --message "Update the template to $version" --message "$(
    echo "Copier has made this update. 'inferplate update' on your machine makes the same one, shows"
    echo "the changelog, and keeps your edits to files that the template has moved."
    list "Conflicts; choose between the marked lines:" "$marked"
    list "Deleted, also if you had edited them:" "$deleted"
    list "For the old dependencies; run 'uv lock':" "$stale"
)"
echo "template-$version"
