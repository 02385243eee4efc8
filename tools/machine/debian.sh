# shellcheck shell=bash disable=SC2154
# Debian's packages: where they come from, and what is made of them. Sourced by lib.sh.

debian_codename() { (. /etc/os-release && echo "$VERSION_CODENAME"); }

# The address that this machine itself gets Debian's packages from.
debian_mirror() {
  # shellcheck disable=SC2016  # apt's placeholders, not the shell's
  apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$(debian_codename)" '$2 == "main" && $3 == release { print $1; exit }'
}

# apt_from FOLDER SUITE[=PRIORITY]... -- ARGUMENTS: apt-get with these suites as its only
# sources and its own lists below FOLDER, so that the machine's configuration stays as it is.
apt_from() {
  local folder=$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg mirror
  shift
  mirror=$(debian_mirror)
  mkdir -p "$folder/lists/partial" "$folder/archives/partial"
  : >"$folder/sources.list"
  : >"$folder/preferences"
  while [[ $1 != -- ]]; do
    echo "deb [signed-by=$keyring] $mirror ${1%=*} main" >>"$folder/sources.list"
    [[ $1 != *=* ]] || printf 'Package: *\nPin: release n=%s\nPin-Priority: %s\n\n' "${1%=*}" "${1#*=}" >>"$folder/preferences"
    shift
  done
  shift
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o APT::Sandbox::User=root \
    -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::Etc::Preferences="$folder/preferences" -o Dir::Etc::PreferencesParts=/dev/null \
    -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder" "$@"
}

# What of these packages is missing is installed; the package lists are fetched only then.
install_packages() {
  local package missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  is_root_on_debian || fail "these Debian packages are missing: ${missing[*]}" "as root: apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  # A third party's broken list must not stop what comes from Debian.
  apt-get update -qq >/dev/null 2>&1 || true
  DEBIAN_FRONTEND=noninteractive quietly apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# bootstrap FOLDER SUITE PACKAGES: a minimal Debian. debootstrap mounts /proc below it; in a mount
# namespace of its own that ends with it, and no later rm meets a mounted one.
bootstrap() {
  local mirror
  mirror=$(debian_mirror)
  [[ -n $mirror ]] || fail "apt names no source of this Debian's packages" "see /etc/apt/sources.list and sources.list.d"
  mkdir -p "$1/etc/dpkg/dpkg.cfg.d"
  # There before the first package is unpacked.
  cp "$root/tools/machine/dpkg-slim.conf" "$1/etc/dpkg/dpkg.cfg.d/slim"
  unshare --mount debootstrap --variant=minbase --include="$3" "$2" "$1" "$mirror"
}

# inside FOLDER COMMAND...: a command of the tree, with Debian's PATH instead of this machine's.
inside() { chroot "$1" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"; }

# trust_host FOLDER: certificates that this machine trusts and Debian does not (a company's proxy);
# pip inside `docker build` needs them.
trust_host() {
  local tree=$1 bundle
  bundle=$(host_ca_bundle)
  [[ -n $bundle ]] || return 0
  awk -v dir="$tree/usr/local/share/ca-certificates" '
    /-BEGIN CERTIFICATE-/ { body = "" }
    { body = body $0 "\n" }
    /-END CERTIFICATE-/ { if (FNR == NR) known[body] = 1; else if (!(body in known)) printf "%s", body > (dir "/host-" ++n ".crt") }
  ' "$tree/etc/ssl/certs/ca-certificates.crt" "$bundle"
  inside "$tree" update-ca-certificates
}

# busybox_tree FOLDER: Debian's static busybox with a link for each of its applets.
busybox_tree() {
  local applet
  mkdir -p "$1/bin"
  cp /bin/busybox "$1/bin/"
  for applet in $(/bin/busybox --list); do
    [[ $applet == busybox ]] || ln -s busybox "$1/bin/$applet"
  done
}
