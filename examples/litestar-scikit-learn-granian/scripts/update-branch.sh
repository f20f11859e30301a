#!/bin/sh
# Commits the update to the template's newest version on a branch of its own, and prints the
# branch's name; without a newer version it prints nothing. Conflicts are marked in the files, and
# listed in the commit message.
set -eu

if copier check-update --quiet; then
    exit
elif [ $? -ne 2 ]; then
    exit 1
fi

# An update with conflicts is committed as well. If there is no update, the reason is on stderr.
report=$(inferplate update) || ! git diff --quiet -- .copier-answers.yml || exit

version=$(sed -n 's/^_commit: //p' .copier-answers.yml)
git switch --quiet --create "template-$version"
git add --all
git commit --quiet --message "Update the template to $version" --message "$(
    printf '```text\n%s\n```' "$report"
)"
echo "template-$version"
