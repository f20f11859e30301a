#!/bin/sh
# publish-image.sh [TAG]    builds the image, pushes it to $REGISTRY_IMAGE and signs it by its digest
# TAG is a tag of git, such as v1.2.3 for the version 1.2.3 in pyproject.toml; without one the image's
# tag is main. The image gets an SBOM and its provenance; its dependencies and its base must be pinned.
# $REGISTRY_USERNAME and $REGISTRY_PASSWORD log in, if they are set; $RUN_URL names the run of CI.
set -eu

fail() {
    echo "publish-image: $*" >&2
    exit 1
}

image=$REGISTRY_IMAGE
host=${image%%/*}
case $image in
    *@* | */*:*) fail "REGISTRY_IMAGE=$image: leave out the tag" ;;
esac
case $host in
    "$image") fail "REGISTRY_IMAGE=$image: name the registry too, as in docker.io/team/$image" ;;
    *.* | *:* | localhost) ;;
    *) fail "REGISTRY_IMAGE=$image: name the registry too, as in docker.io/$image" ;;
esac

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
tag=main
if [ -n "${1-}" ]; then
    [ "$1" = "v$version" ] || fail "the tag $1 is not v$version: pyproject.toml has version $version"
    tag=$version
fi

[ -f uv.lock ] || fail "there is no uv.lock: run 'make lock', and commit it"
base=$(sed -n 's/^FROM \(.*\) AS pinned$/\1/p' Dockerfile)
case " ${BUILD_ARGS-}" in
    *" BASE="*)
        base=${BUILD_ARGS#*BASE=}
        base=${base%% *}
        ;;
esac
case $base in
    *@sha256:*) ;;
    *) fail "the base $base has no digest: run 'make lock-base', and commit the Dockerfile" ;;
esac

if [ -n "${REGISTRY_PASSWORD-}" ]; then
    printf %s "$REGISTRY_PASSWORD" |
        docker login --username "$REGISTRY_USERNAME" --password-stdin "$host"
fi

revision=$(git rev-parse --verify HEAD)
mkdir -p build
# BUILD_ARGS are words, as for 'make image'.
# shellcheck disable=SC2086
docker buildx build \
    --push \
    --sbom=true \
    --provenance="mode=max${RUN_URL:+,builder-id=$RUN_URL}" \
    --cache-from "type=registry,ref=$image:buildcache" \
    --cache-to "type=registry,ref=$image:buildcache,mode=max,image-manifest=true,ignore-error=true" \
    --build-arg "VERSION=$version" \
    --build-arg "REVISION=$revision" \
    --metadata-file build/image.json \
    --tag "$image:$tag" \
    ${BUILD_ARGS-} .

digest=$(sed -n 's/.*"containerimage\.digest": *"\(sha256:[0-9a-f]\{64\}\)".*/\1/p' build/image.json)
[ -n "$digest" ] || fail "buildx did not say which digest it pushed"
cosign sign --yes "$image@$digest"
echo "$image:$tag@$digest"
