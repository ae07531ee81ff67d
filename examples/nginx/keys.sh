#!/bin/sh
# Before nginx: the secrets become the files that it reads, in memory, for root alone. A value of more than
# one line is base64 in the secrets' file, and so is every key in PEM.
set -eu
umask 077
mkdir -p /run/tls
value() {
    sed -n "s/^$1=base64://p" /run/secrets/platform.env | base64 -d
}
value TLS_KEY >/run/tls/key.pem
value TLS_CERT >/run/tls/cert.pem
# Not a secret: which version this is, from the image or from the manifest.
echo "map \"\" \$version { default \"$VERSION\"; }" >/run/tls/version.conf
