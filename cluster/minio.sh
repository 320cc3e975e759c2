# An S3 server, with one bucket and one pair of keys.

minio_package=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
minio_address=$host:9000
minio_bucket=buildit
minio_user=buildit
minio_password=buildit-test-secret

minio_up() {
    local server
    packages curl
    server=$(go_program minio "$minio_package")
    mkdir -p "$data/minio"
    MINIO_ROOT_USER=$minio_user MINIO_ROOT_PASSWORD=$minio_password MINIO_BROWSER=off MINIO_UPDATE=off \
        daemon minio "$server" server --quiet --address "$minio_address" "$data/minio"
    until_ready minio 30 curl --fail --silent "http://$minio_address/minio/health/ready"
    s3 HEAD "$minio_bucket" --head >/dev/null 2>&1 || s3 PUT "$minio_bucket" >/dev/null
}

minio_down() { end minio; }
minio_daemons() { echo minio; }
minio_where() { echo "http://$minio_address, bucket $minio_bucket"; }
minio_env() {
    cat <<END
BUILDIT_TEST_S3_ENDPOINT=http://$minio_address
BUILDIT_TEST_S3_REGION=us-east-1
BUILDIT_TEST_S3_BUCKET=$minio_bucket
BUILDIT_TEST_S3_ACCESS_KEY=$minio_user
BUILDIT_TEST_S3_SECRET_KEY=$minio_password
END
}

# s3 METHOD PATH ARGUMENTS…: a signed request.
s3() {
    local method=$1 path=$2
    shift 2
    curl --fail --silent --show-error --request "$method" --aws-sigv4 aws:amz:us-east-1:s3 --user "$minio_user:$minio_password" \
        --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" "http://$minio_address/$path"
}

minio_check() {
    s3 PUT "$minio_bucket/check" --data-binary 'an object'
    [[ $(s3 GET "$minio_bucket/check") == 'an object' ]]
    s3 DELETE "$minio_bucket/check"
    say "minio: an object was written, read and deleted"
}
