import os

from pyspark.sql import SparkSession
from pyspark.sql.functions import get_json_object

spark = SparkSession.builder.appName("reviews").getOrCreate()
reviews = spark.read.csv("reviews.csv", header=True)  # columns: id, text

# The command's environment. The key is in a file: `env` travels with the tasks.
folder = os.getcwd()  # on a cluster: a folder that all executors see
env = {"FOLDER": folder}
for name in ("PATH", "TOLLGATE_SHARED_LIMIT", "OPENAI_BASE_URL"):
    if name in os.environ:
        env[name] = os.environ[name]

# Partitions by the ids, so that a row is in the same one at each attempt.
rows = reviews.repartition(8, "id").toJSON()
records = rows.pipe(f"sh '{folder}/spark_pipe.sh'", env, checkCode=True)

answers = spark.createDataFrame(records, "string").select(
    get_json_object("value", "$.custom_id").alias("id"),
    get_json_object("value", "$.response.body.choices[0].message.content").alias("answer"),
)
reviews.join(answers, "id").write.parquet("reviews.answers", mode="overwrite")
