#!/bin/sh
# Puts the jars of S3A into Spark's folder of jars. The image's build runs it.
# usage: s3a-jars.sh maven         hadoop-aws of Spark's Hadoop version and what it needs, from Maven
#        s3a-jars.sh docker/jars   the jars in this folder of the build context
#        s3a-jars.sh 'URL URL'     jars at addresses, such as those of a mirror of Maven
#        s3a-jars.sh none          no jars: an image for local files only
set -eu
wanted=$1
target=$SPARK_HOME/jars
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

case $wanted in
none)
    exit 0
    ;;
maven)
    version=$(basename "$target"/hadoop-client-api-*.jar .jar)
    version=${version#hadoop-client-api-}
    : > "$new/nothing.py"
    # Spark's own resolver, as with `spark-submit --packages`.
    spark-submit --master 'local[1]' --conf "spark.jars.ivy=$new/ivy" \
        ${S3A_REPOSITORIES:+--repositories "$S3A_REPOSITORIES"} \
        --packages "org.apache.hadoop:hadoop-aws:$version" "$new/nothing.py"
    find "$new/ivy" -path '*/cache/*' -name '*.jar' -exec mv {} "$new" \;
    ;;
http://*|https://*)
    for address in $wanted; do
        python -c 'import sys, urllib.request as r; r.urlretrieve(*sys.argv[1:])' \
            "$address" "$new/${address##*/}"
    done
    ;;
*)
    [ -d "$wanted" ] || { echo "s3a-jars.sh: $wanted is no folder of the build context" >&2; exit 1; }
    find "$wanted" -name '*.jar' -exec cp {} "$new" \;
    ;;
esac

for jar in "$new"/*.jar; do
    name=$(basename "$jar")
    # What Spark has in another version stays Spark's.
    for present in "$target/${name%%-[0-9]*}"-[0-9]*.jar; do
        [ ! -e "$present" ] || continue 2
    done
    chmod 644 "$jar"
    mv "$jar" "$target"
    echo "$name"
done
set -- "$target"/hadoop-aws-*.jar
[ -e "$1" ] || { echo "s3a-jars.sh: no hadoop-aws among the jars of $wanted" >&2; exit 1; }
