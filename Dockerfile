# docker build -t headpursuit .
# docker run --rm -v "$PWD/demo-report:/results/demo-report" headpursuit            the demo, its page in demo-report/
# docker run --rm --gpus all -v ~/.cache/huggingface:/cache headpursuit doctor         any other command
FROM python:3.13-slim

COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt '/src[all]' && rm -rf /src && useradd --create-home user \
 && mkdir -p /results /cache && chown user /results /cache
USER user
WORKDIR /results
ENV HF_HOME=/cache TOKENIZERS_PARALLELISM=false
ENTRYPOINT ["headpursuit"]
CMD ["demo", "--out", "demo-report"]
