# The manifests, against the types of the Kubernetes API, against each other, and against the program.

render() {
    has kubectl || { skip 'manifests: not rendered: no kubectl'; return; }
    kubectl kustomize packaging/kubernetes/base >"$work/base.yaml"
    rendered=$work/base.yaml
    local component
    for component in io-uring image-volume; do
        # A kustomization reaches nothing outside its own tree.
        cp -r packaging/kubernetes "$work/$component"
        mkdir "$work/$component/overlay"
        printf 'resources: [../base]\ncomponents: [../components/%s]\n' $component \
            >"$work/$component/overlay/kustomization.yaml"
        kubectl kustomize "$work/$component/overlay" >"$work/$component.yaml"
        rendered+=" $work/$component.yaml"
    done
    grep -q 'localhostProfile: profiles/triptych.json' "$work/io-uring.yaml" || die 'manifests: no profile'
    grep -q 'reference: registry.example/site-files' "$work/image-volume.yaml" || die 'manifests: no volume'
    ok 'manifests: kubectl renders the base and each component'
}

check_manifests() {
    local rendered=
    render
    TRIPTYCH=$binary RENDERED=$rendered CARGO_TARGET_DIR="$target/manifests" cargo test --quiet --locked \
        --manifest-path packaging/kubernetes/check/Cargo.toml >"$work/manifests" 2>&1 ||
        die "manifests: $(cat "$work/manifests")"
    ok "manifests: $(grep -o '[1-9][0-9]* passed' "$work/manifests" | head -1) of their tests"
    if has kubeconform; then
        kubeconform -strict -summary "$work"/*.yaml || die 'manifests: kubeconform'
        ok 'manifests: kubeconform finds no fault'
    else
        skip 'manifests: no kubeconform (their fields are checked against k8s-openapi)'
    fi
}
check_manifests
