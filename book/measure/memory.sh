# What one more container of an image costs in memory: the fair share of one, beside more and more neighbours.
printf 'title\tMemory of one container, beside others of its image\nunit\tkB\n'
teu image base >/dev/null 2>&1
running=0
for count in 1 2 4 8 16; do
    while [ $running -lt $count ]; do
        running=$((running + 1))
        teu run -d --network none --name n$running base sleep 1000 >/dev/null
    done
    pid=$(teu inspect -f '{{.State.Pid}}' n1)
    share=$(awk '/^Pss:/ { print $2 }' /proc/"$pid"/smaps_rollup)
    [ $count = 1 ] && name='alone' || name="one of $count"
    printf 'of%s\t%s\t%s\n' $count "$name" "$share"
done
printf 'own\tits own pages, which nobody shares\t%s\n' "$(awk '/^Private_Dirty:/ { print $2 }' /proc/"$pid"/smaps_rollup)"
teu ps -aq | xargs teu rm -f >/dev/null
