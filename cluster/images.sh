# Small images of our own making, as docker archives: the registry gets them by crane, the Docker engine and
# containerd read them as they are. An image is made anew when its recipe changes.

images=(pause busybox noshell debian buildah)
archives=$base/images
crane_package=github.com/google/go-containerregistry/cmd/crane@v0.22.1

image_name() { echo "buildit.test/$1:1"; }

image_hash() {
    local hash
    hash=$({
        declare -f "make_$1" write_archive go_static make_bookworm
        image_config "$1"
        cat "images/$1"/* 2>/dev/null || true
    } | sha256sum)
    echo "${hash:0:12}"
}

image_archive() { echo "$archives/$1-$(image_hash "$1").tar"; }

make_images() {
    local name
    mkdir -p "$archives"
    for name in "${images[@]}"; do
        [[ -e $(image_archive "$name") ]] || timed "making the image $name" make_image "$name"
    done
}

# make_image NAME: the recipe fills $root, or writes $layer itself.
make_image() {
    local work root layer
    work=$(mktemp -d "$archives/.new.XXXXXX")
    root=$work/root layer=$work/layer.tar
    mkdir "$root"
    "make_$1"
    [[ -e $layer ]] || tar --create --file "$layer" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$root" .
    write_archive "$1" "$work"
    rm -f "$archives/$1"-*.tar
    mv "$work/archive.tar" "$(image_archive "$1")"
    rm -rf "$work"
}

# write_archive NAME FOLDER
write_archive() {
    local layer
    layer=$(sha256sum "$2/layer.tar")
    cat >"$2/config.json" <<END
{"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z", "config": $(image_config "$1"),
 "rootfs": {"type": "layers", "diff_ids": ["sha256:${layer%% *}"]}, "history": [{"created": "1970-01-01T00:00:00Z"}]}
END
    echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$(image_name "$1")\"], \"Layers\": [\"layer.tar\"]}]" >"$2/manifest.json"
    tar --create --file "$2/archive.tar" --mtime=@0 --owner=0 --group=0 --directory "$2" manifest.json config.json layer.tar
}

image_config() {
    local path='"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
    case $1 in
    pause | noshell) echo "{\"Entrypoint\": [\"/$1\"]}" ;;
    busybox) echo "{$path, \"Cmd\": [\"sh\"]}" ;;
    debian | buildah) echo "{$path, \"Cmd\": [\"bash\"]}" ;;
    esac
}

# What keeps a pod's namespaces: waits to be ended.
make_pause() { go_static pause "$root/pause"; }

# No shell, no other file than the one program.
make_noshell() { go_static noshell "$root/noshell"; }

go_static() { CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$2" "./images/$1/main.go"; }

# The smallest image with a shell.
make_busybox() {
    local applet
    packages busybox-static
    mkdir -p "$root"/{bin,etc,tmp}
    chmod 1777 "$root/tmp"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    echo root:x:0:0:root:/:/bin/sh >"$root/etc/passwd"
    echo root:x:0: >"$root/etc/group"
}

# A common image with git, curl and certificates.
make_debian() { make_bookworm git,ca-certificates,curl; }

# An image that builds images, in a pod without privileges.
make_buildah() { make_bookworm buildah,ca-certificates; }

make_bookworm() {
    packages mmdebstrap
    TMPDIR=$work mmdebstrap --quiet --variant=apt --include="$1" bookworm "$layer" >"$logs/mmdebstrap.log" 2>&1
}

# The hash is a tag too, by which the registry is asked whether it has just this image.
push_images() {
    local name crane
    make_images
    crane=$(go_program crane "$crane_package")
    for name in "${images[@]}"; do
        if ! curl --fail --silent --head --header 'Accept: */*' --output /dev/null \
            "http://$registry_address/v2/$name/manifests/$(image_hash "$name")"; then
            timed "pushing $name" push_image "$name"
        fi
    done
}

push_image() {
    local to=$registry_address/$1
    "$crane" push --insecure "$(image_archive "$1")" "$to:1" >"$logs/push.log" 2>&1
    "$crane" tag --insecure "$to:1" "$(image_hash "$1")" >>"$logs/push.log" 2>&1
    forget_image "$1"
}

# The node asks no registry for an image that it has.
forget_image() {
    local names
    if ! alive containerd; then
        rm -rf "$containerd_root"
        return
    fi
    names=$(node_ctr images list --quiet | grep "/$1:1$" || true)
    # shellcheck disable=SC2086
    [[ ! $names ]] || node_ctr images delete --sync $names >/dev/null
}
