units=(/lib/systemd/system/echod.service /lib/systemd/system/echod.socket /lib/systemd/system/echod-standalone.service)
# systemd-analyze also looks for the manual page that the units name.
mkdir -p /usr/share/man/man8
[ -e /usr/share/man/man8/echod.8 ] || echo '.TH ECHOD 8' > /usr/share/man/man8/echod.8
said=$(systemd-analyze verify "${units[@]}" 2>&1)
[ -z "$said" ] || fail "$said"
systemd-analyze security --offline=yes --threshold=9 echod.service
