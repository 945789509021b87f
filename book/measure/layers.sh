# The same three commands in three, two and one RUN: what each image takes on top of its base.
printf 'title\tThe same files, in three, two and one RUN\nunit\tMB\n'
teu image base >/dev/null 2>&1
make='RUN head -c 50000000 /dev/urandom > /big' mode='chmod 600 /big' remove='rm /big'
printf 'FROM base\n%s\nRUN %s\nRUN %s\n' "$make" "$mode" "$remove" >three
printf 'FROM base\n%s\nRUN %s && %s\n' "$make" "$mode" "$remove" >two
printf 'FROM base\n%s && %s && %s\n' "$make" "$mode" "$remove" >one
size() { teu image inspect -f '{{.Size}}' "$1"; }
base=$(size base)
for image in three two one; do
    teu build -q -t $image -f $image . >/dev/null
    printf '%s\t%s\t%s\n' $image "$image RUN" "$(echo "$(size $image) $base" | awk '{ printf "%.1f", ($1 - $2) / 1e6 }')"
done
