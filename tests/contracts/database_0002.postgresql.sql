SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.artifact (
    sha256 character varying NOT NULL,
    size_bytes bigint NOT NULL,
    kind character varying NOT NULL,
    created_at double precision NOT NULL
);
CREATE TABLE public.attempt (
    job_id character varying NOT NULL,
    number integer NOT NULL,
    device_id integer NOT NULL,
    fence integer NOT NULL,
    started_at double precision NOT NULL,
    ended_at double precision,
    status character varying,
    error json,
    outcome_message json,
    conditions_key character varying,
    clock_offset_secs double precision,
    clock_offset_uncertainty_secs double precision
);
CREATE TABLE public.bundle (
    sha256 character varying NOT NULL,
    arch character varying NOT NULL,
    size_bytes bigint NOT NULL,
    manifest json NOT NULL,
    built_at double precision NOT NULL,
    built_by character varying NOT NULL
);
CREATE TABLE public.device (
    id integer NOT NULL,
    name character varying NOT NULL,
    profile character varying NOT NULL,
    gateway character varying NOT NULL,
    transport character varying NOT NULL,
    address json NOT NULL,
    root character varying NOT NULL,
    labels json NOT NULL,
    emulated character varying NOT NULL,
    health character varying NOT NULL,
    health_reason character varying NOT NULL,
    facts json NOT NULL,
    added_at double precision NOT NULL,
    fence bigint NOT NULL,
    lease_job_id character varying,
    lease_expires_at double precision,
    health_set_by character varying NOT NULL,
    health_until double precision,
    next_check_at double precision,
    check_asked_at double precision,
    power_cycle json,
    power_cycled_at double precision
);
CREATE SEQUENCE public.device_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.device_id_seq OWNED BY public.device.id;
CREATE TABLE public.environment (
    id integer NOT NULL,
    device_id integer NOT NULL,
    name character varying NOT NULL,
    interpreter json NOT NULL,
    digest character varying NOT NULL,
    facts json NOT NULL,
    checked_at double precision NOT NULL,
    golden_digest character varying,
    bundle_sha256 character varying
);
CREATE SEQUENCE public.environment_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.environment_id_seq OWNED BY public.environment.id;
CREATE TABLE public.experiment (
    id character varying NOT NULL,
    name character varying NOT NULL,
    spec_file character varying NOT NULL,
    spec_text text NOT NULL,
    spec_sha256 character varying NOT NULL,
    plan json NOT NULL,
    priority integer NOT NULL,
    submitted_at double precision NOT NULL,
    submitted_by character varying NOT NULL,
    finished_at double precision,
    cancel_requested_by character varying,
    edgematrix_version character varying NOT NULL,
    agent_sha256 character varying NOT NULL,
    max_devices integer
);
CREATE TABLE public.job (
    id character varying NOT NULL,
    experiment_id character varying NOT NULL,
    job_key character varying NOT NULL,
    model character varying NOT NULL,
    variant character varying NOT NULL,
    environment character varying NOT NULL,
    num_threads integer NOT NULL,
    provider character varying NOT NULL,
    graph_optimization character varying,
    scenario character varying NOT NULL,
    repeat integer NOT NULL,
    device_query character varying NOT NULL,
    device_id integer,
    state character varying NOT NULL,
    outcome character varying,
    error json,
    attempts integer NOT NULL,
    fence integer,
    next_drive_at double precision,
    progress json,
    waiting_for character varying,
    submitted_at double precision NOT NULL,
    finished_at double precision
);
CREATE TABLE public.lock (
    name character varying NOT NULL,
    holder character varying NOT NULL,
    expires_at double precision NOT NULL
);
CREATE TABLE public.metric (
    job_id character varying NOT NULL,
    name character varying NOT NULL,
    value double precision,
    unit character varying NOT NULL,
    low double precision,
    high double precision,
    count bigint,
    cause character varying
);
CREATE TABLE public.reservation (
    id bigint NOT NULL,
    device_id integer NOT NULL,
    holder character varying NOT NULL,
    why character varying NOT NULL,
    begins_at double precision NOT NULL,
    ends_at double precision NOT NULL,
    ended_at double precision,
    ended_by character varying,
    ended_why character varying NOT NULL
);
CREATE SEQUENCE public.reservation_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reservation_id_seq OWNED BY public.reservation.id;
CREATE TABLE public.result (
    job_id character varying NOT NULL,
    attempt integer NOT NULL,
    analysis_version integer NOT NULL,
    validity json NOT NULL,
    traces json NOT NULL,
    published_at double precision NOT NULL
);
CREATE TABLE public.state_change (
    id bigint NOT NULL,
    subject character varying NOT NULL,
    subject_id character varying NOT NULL,
    old character varying NOT NULL,
    new character varying NOT NULL,
    actor character varying NOT NULL,
    why character varying NOT NULL,
    at double precision NOT NULL
);
CREATE SEQUENCE public.state_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.state_change_id_seq OWNED BY public.state_change.id;
ALTER TABLE ONLY public.device ALTER COLUMN id SET DEFAULT nextval('public.device_id_seq'::regclass);
ALTER TABLE ONLY public.environment ALTER COLUMN id SET DEFAULT nextval('public.environment_id_seq'::regclass);
ALTER TABLE ONLY public.reservation ALTER COLUMN id SET DEFAULT nextval('public.reservation_id_seq'::regclass);
ALTER TABLE ONLY public.state_change ALTER COLUMN id SET DEFAULT nextval('public.state_change_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES ('0002');
INSERT INTO public.artifact VALUES ('abababababababababababababababababababababababababababababababab', 10, 'trace', 1);
INSERT INTO public.attempt VALUES ('j1', 1, 1, 7, 1763686800, 1763686809.5, 'completed', NULL, '{"protocol":1,"job_id":"j1","attempt":1,"fence":7,"agent_version":"0.1.0","agent_sha256":"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef","status":"completed","started_utc":"2025-11-21T01:00:00.000Z","ended_utc":"2025-11-21T01:00:09.500Z","duration_secs":9.5,"error":null,"runner":{"error":null,"origin_monotonic_ns":0,"runtime":{},"inputs":[],"outputs":[],"placement":null,"load_ns":1000000,"first_query_ns":null,"warmup_count":0,"steady_count":40,"steady_ns":0,"min_duration_met":null,"min_query_count_met":null,"flush_pauses_ns":[],"peak_rss_bytes":null,"rss_before_load_bytes":null,"numpy_threads":{}},"conditions":{"cpu":{"model":"a CPU","features":{"avx512_vnni":true}}},"sensors":[{"name":"cpu_busy_percent","unit":"%","source":"/proc/stat","error":null}],"streams":{}}', 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk', NULL, NULL);
INSERT INTO public.bundle VALUES ('cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 'arm64', 4096, '{"loader":"ld.so"}', 1700000000, 'ada');
INSERT INTO public.device VALUES (1, 'bench-1', 'linux-x86_64', 'here', 'local', '{}', '/var/lib/edgematrix', '{"room":"a"}', 'none', 'unknown', '', '{}', 1000, 0, NULL, NULL, 'ada', 1700000500, NULL, NULL, '{"driver":"command","argv":["pdu","7"]}', NULL);
INSERT INTO public.environment VALUES (1, 1, 'default', '["python3"]', 'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd', '{}', 1, '9f', NULL);
INSERT INTO public.experiment VALUES ('e1', 'digits', 'digits.yaml', 'format: 1', 'abababababababababababababababababababababababababababababababab', '{"models":{"digits-cnn":{"name":"digits-cnn","reference":"fp32","task":{"kind":"classification","scores":"logits","top_k":5},"dataset":{"info":{"file":"digits.npz","sha256":"abababababababababababababababababababababababababababababababab","sample_count":300,"class_count":10,"class_names":[]},"inputs":{"sha256":"abababababababababababababababababababababababababababababababab","size_bytes":19200,"sample_count":300,"sample_shape":[8,8,1],"dtype":"float32"},"answers_sha256":"abababababababababababababababababababababababababababababababab","answers_size_bytes":null,"slices":[]},"variants":{"fp32":{"info":{"model":"digits-cnn","name":"fp32","reference":true,"runtime":"onnx","precision":"fp32","quantization":"none","file":"digits/fp32.onnx","sha256":"abababababababababababababababababababababababababababababababab","size_bytes":1234,"weights":{},"notes":[]},"steps":[]},"w8a8":{"info":{"model":"digits-cnn","name":"w8a8","reference":false,"runtime":"onnx","precision":"w8a8","quantization":"static QDQ","file":"digits/w8a8.onnx","sha256":"abababababababababababababababababababababababababababababababab","size_bytes":1234,"weights":{},"notes":[]},"steps":[]}}}},"scenarios":{"accuracy":{"repeats":1,"full_outputs":false,"warmup_min_secs":1.0,"warmup_runs":10,"min_duration_secs":10.0,"min_query_count":1024,"max_duration_secs":60.0},"latency":{"repeats":2,"full_outputs":false,"warmup_min_secs":1.0,"warmup_runs":10,"min_duration_secs":10.0,"min_query_count":1024,"max_duration_secs":60.0}},"limits":{"timeout_secs":600.0,"max_attempts":3,"orphan_after_secs":900.0},"telemetry_hz":10.0}', 0, 1700000000.25, 'ada', NULL, NULL, '0.1.0', 'cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 2);
INSERT INTO public.job VALUES ('j1', 'e1', 'j1', 'digits-cnn', 'w8a8', 'default', 1, 'default', 'all', 'latency', 0, 'all', 1, 'finished', 'completed', NULL, 1, 7, NULL, NULL, NULL, 1700000000.25, 1763686810);
INSERT INTO public.lock VALUES ('scheduler', 'h', 2);
INSERT INTO public.metric VALUES ('j1', 'invoke_ms.p50', 0.125, 'ms', 0.124, 0.126, 6000000000, NULL);
INSERT INTO public.metric VALUES ('j1', 'invoke_ms.p99', NULL, 'ms', NULL, NULL, 40, 'p99 needs 662 queries; there are 40');
INSERT INTO public.reservation VALUES (1, 1, 'ada', 'bring-up', 1700000000, 1700003600, NULL, NULL, '');
INSERT INTO public.result VALUES ('j1', 1, 1, '{"level":"semivalid","reasons":[{"code":"high_variation","level":"semivalid","message":"varies by 3.1 %","value":3.1,"threshold":2.5}],"unknown":["temperature"]}', '{"queries":{"sha256":"abababababababababababababababababababababababababababababababab","size_bytes":10,"rows":40}}', 1763686810);
INSERT INTO public.state_change VALUES (1, 'job', 'j1', 'collecting', 'finished', 'system', '', 1);
SELECT pg_catalog.setval('public.device_id_seq', 1, true);
SELECT pg_catalog.setval('public.environment_id_seq', 1, true);
SELECT pg_catalog.setval('public.reservation_id_seq', 1, false);
SELECT pg_catalog.setval('public.state_change_id_seq', 1, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.artifact
    ADD CONSTRAINT pk_artifact PRIMARY KEY (sha256);
ALTER TABLE ONLY public.attempt
    ADD CONSTRAINT pk_attempt PRIMARY KEY (job_id, number);
ALTER TABLE ONLY public.bundle
    ADD CONSTRAINT pk_bundle PRIMARY KEY (sha256);
ALTER TABLE ONLY public.device
    ADD CONSTRAINT pk_device PRIMARY KEY (id);
ALTER TABLE ONLY public.environment
    ADD CONSTRAINT pk_environment PRIMARY KEY (id);
ALTER TABLE ONLY public.experiment
    ADD CONSTRAINT pk_experiment PRIMARY KEY (id);
ALTER TABLE ONLY public.job
    ADD CONSTRAINT pk_job PRIMARY KEY (id);
ALTER TABLE ONLY public.lock
    ADD CONSTRAINT pk_lock PRIMARY KEY (name);
ALTER TABLE ONLY public.metric
    ADD CONSTRAINT pk_metric PRIMARY KEY (job_id, name);
ALTER TABLE ONLY public.reservation
    ADD CONSTRAINT pk_reservation PRIMARY KEY (id);
ALTER TABLE ONLY public.result
    ADD CONSTRAINT pk_result PRIMARY KEY (job_id);
ALTER TABLE ONLY public.state_change
    ADD CONSTRAINT pk_state_change PRIMARY KEY (id);
ALTER TABLE ONLY public.device
    ADD CONSTRAINT uq_device_name UNIQUE (name);
ALTER TABLE ONLY public.environment
    ADD CONSTRAINT uq_environment_device_id_name UNIQUE (device_id, name);
ALTER TABLE ONLY public.job
    ADD CONSTRAINT uq_job_experiment_id_job_key UNIQUE (experiment_id, job_key);
CREATE INDEX ix_attempt_device_id ON public.attempt USING btree (device_id);
CREATE INDEX ix_device_lease_job_id ON public.device USING btree (lease_job_id);
CREATE INDEX ix_experiment_name ON public.experiment USING btree (name);
CREATE INDEX ix_experiment_submitted_at ON public.experiment USING btree (submitted_at);
CREATE INDEX ix_job_device ON public.job USING btree (device_id, state, experiment_id, id);
CREATE INDEX ix_job_due ON public.job USING btree (next_drive_at);
CREATE INDEX ix_job_waiting ON public.job USING btree (state, experiment_id);
CREATE INDEX ix_reservation_device_id ON public.reservation USING btree (device_id);
CREATE INDEX ix_state_change_subject ON public.state_change USING btree (subject, subject_id);
ALTER TABLE ONLY public.attempt
    ADD CONSTRAINT fk_attempt_device_id FOREIGN KEY (device_id) REFERENCES public.device(id);
ALTER TABLE ONLY public.attempt
    ADD CONSTRAINT fk_attempt_job_id FOREIGN KEY (job_id) REFERENCES public.job(id);
ALTER TABLE ONLY public.environment
    ADD CONSTRAINT fk_environment_device_id FOREIGN KEY (device_id) REFERENCES public.device(id);
ALTER TABLE ONLY public.job
    ADD CONSTRAINT fk_job_device_id FOREIGN KEY (device_id) REFERENCES public.device(id);
ALTER TABLE ONLY public.job
    ADD CONSTRAINT fk_job_experiment_id FOREIGN KEY (experiment_id) REFERENCES public.experiment(id);
ALTER TABLE ONLY public.metric
    ADD CONSTRAINT fk_metric_job_id FOREIGN KEY (job_id) REFERENCES public.job(id);
ALTER TABLE ONLY public.reservation
    ADD CONSTRAINT fk_reservation_device_id FOREIGN KEY (device_id) REFERENCES public.device(id);
ALTER TABLE ONLY public.result
    ADD CONSTRAINT fk_result_job_id FOREIGN KEY (job_id) REFERENCES public.job(id);
