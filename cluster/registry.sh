# An OCI registry. It serves whatever name an image has: containerd on the node asks nobody else.

registry_package=github.com/distribution/distribution/v3/cmd/registry@v3.1.2
registry_address=$host:5000

registry_up() {
    local server
    packages curl
    server=$(go_program registry "$registry_package")
    cat >"$run/registry.yml" <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $data/registry}
  delete: {enabled: true}
http: {addr: "$registry_address"}
END
    daemon registry "$server" serve "$run/registry.yml"
    until_ready registry 30 curl --fail --silent "http://$registry_address/v2/"
    push_images
}

registry_down() { end registry; }
registry_daemons() { echo registry; }
registry_where() { echo "http://$registry_address"; }
registry_env() { echo "BUILDIT_TEST_REGISTRY=$registry_address"; }

registry_check() {
    local image
    image=$(images_of_registry)
    [[ $image == *busybox* ]]
    say "registry: it lists $image"
}

images_of_registry() { curl --fail --silent "http://$registry_address/v2/_catalog"; }
