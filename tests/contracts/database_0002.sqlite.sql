BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE artifact (
	sha256 VARCHAR NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	kind VARCHAR NOT NULL, 
	created_at FLOAT NOT NULL, 
	CONSTRAINT pk_artifact PRIMARY KEY (sha256)
);
INSERT INTO "artifact" VALUES('abababababababababababababababababababababababababababababababab',10,'trace',1.0);
CREATE TABLE attempt (
	job_id VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	device_id INTEGER NOT NULL, 
	fence INTEGER NOT NULL, 
	started_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	status VARCHAR, 
	error JSON, 
	outcome_message JSON, 
	conditions_key VARCHAR, 
	clock_offset_secs FLOAT, 
	clock_offset_uncertainty_secs FLOAT, 
	CONSTRAINT pk_attempt PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_attempt_job_id FOREIGN KEY(job_id) REFERENCES job (id), 
	CONSTRAINT fk_attempt_device_id FOREIGN KEY(device_id) REFERENCES device (id)
);
INSERT INTO "attempt" VALUES('j1',1,1,7,1763686800.0,1763686809.5,'completed',NULL,'{"protocol":1,"job_id":"j1","attempt":1,"fence":7,"agent_version":"0.1.0","agent_sha256":"efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef","status":"completed","started_utc":"2025-11-21T01:00:00.000Z","ended_utc":"2025-11-21T01:00:09.500Z","duration_secs":9.5,"error":null,"runner":{"error":null,"origin_monotonic_ns":0,"runtime":{},"inputs":[],"outputs":[],"placement":null,"load_ns":1000000,"first_query_ns":null,"warmup_count":0,"steady_count":40,"steady_ns":0,"min_duration_met":null,"min_query_count_met":null,"flush_pauses_ns":[],"peak_rss_bytes":null,"rss_before_load_bytes":null,"numpy_threads":{}},"conditions":{"cpu":{"model":"a CPU","features":{"avx512_vnni":true}}},"sensors":[{"name":"cpu_busy_percent","unit":"%","source":"/proc/stat","error":null}],"streams":{}}','kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk',NULL,NULL);
CREATE TABLE bundle (
	sha256 VARCHAR NOT NULL, 
	arch VARCHAR NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	manifest JSON NOT NULL, 
	built_at FLOAT NOT NULL, 
	built_by VARCHAR NOT NULL, 
	CONSTRAINT pk_bundle PRIMARY KEY (sha256)
);
INSERT INTO "bundle" VALUES('cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','arm64',4096,'{"loader":"ld.so"}',1700000000.0,'ada');
CREATE TABLE "device" (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	profile VARCHAR NOT NULL, 
	gateway VARCHAR NOT NULL, 
	transport VARCHAR NOT NULL, 
	address JSON NOT NULL, 
	root VARCHAR NOT NULL, 
	labels JSON NOT NULL, 
	emulated VARCHAR NOT NULL, 
	health VARCHAR NOT NULL, 
	health_reason VARCHAR NOT NULL, 
	facts JSON NOT NULL, 
	added_at FLOAT NOT NULL, 
	fence BIGINT NOT NULL, 
	lease_job_id VARCHAR, 
	lease_expires_at FLOAT, 
	health_set_by VARCHAR NOT NULL, 
	health_until FLOAT, 
	next_check_at FLOAT, 
	check_asked_at FLOAT, 
	power_cycle JSON, 
	power_cycled_at FLOAT, 
	CONSTRAINT pk_device PRIMARY KEY (id), 
	CONSTRAINT uq_device_name UNIQUE (name)
);
INSERT INTO "device" VALUES(1,'bench-1','linux-x86_64','here','local','{}','/var/lib/edgematrix','{"room":"a"}','none','unknown','','{}',1000.0,0,NULL,NULL,'ada',1700000500.0,NULL,NULL,'{"driver":"command","argv":["pdu","7"]}',NULL);
CREATE TABLE environment (
	id INTEGER NOT NULL, 
	device_id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	interpreter JSON NOT NULL, 
	digest VARCHAR NOT NULL, 
	facts JSON NOT NULL, 
	checked_at FLOAT NOT NULL, golden_digest VARCHAR, bundle_sha256 VARCHAR, 
	CONSTRAINT pk_environment PRIMARY KEY (id), 
	CONSTRAINT fk_environment_device_id FOREIGN KEY(device_id) REFERENCES device (id), 
	CONSTRAINT uq_environment_device_id_name UNIQUE (device_id, name)
);
INSERT INTO "environment" VALUES(1,1,'default','["python3"]','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','{}',1.0,'9f',NULL);
CREATE TABLE experiment (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	spec_file VARCHAR NOT NULL, 
	spec_text TEXT NOT NULL, 
	spec_sha256 VARCHAR NOT NULL, 
	"plan" JSON NOT NULL, 
	priority INTEGER NOT NULL, 
	submitted_at FLOAT NOT NULL, 
	submitted_by VARCHAR NOT NULL, 
	finished_at FLOAT, 
	cancel_requested_by VARCHAR, 
	edgematrix_version VARCHAR NOT NULL, 
	agent_sha256 VARCHAR NOT NULL, max_devices INTEGER, 
	CONSTRAINT pk_experiment PRIMARY KEY (id)
);
INSERT INTO "experiment" VALUES('e1','digits','digits.yaml','format: 1','abababababababababababababababababababababababababababababababab','{"models":{"digits-cnn":{"name":"digits-cnn","reference":"fp32","task":{"kind":"classification","scores":"logits","top_k":5},"dataset":{"info":{"file":"digits.npz","sha256":"abababababababababababababababababababababababababababababababab","sample_count":300,"class_count":10,"class_names":[]},"inputs":{"sha256":"abababababababababababababababababababababababababababababababab","size_bytes":19200,"sample_count":300,"sample_shape":[8,8,1],"dtype":"float32"},"answers_sha256":"abababababababababababababababababababababababababababababababab","answers_size_bytes":null,"slices":[]},"variants":{"fp32":{"info":{"model":"digits-cnn","name":"fp32","reference":true,"runtime":"onnx","precision":"fp32","quantization":"none","file":"digits/fp32.onnx","sha256":"abababababababababababababababababababababababababababababababab","size_bytes":1234,"weights":{},"notes":[]},"steps":[]},"w8a8":{"info":{"model":"digits-cnn","name":"w8a8","reference":false,"runtime":"onnx","precision":"w8a8","quantization":"static QDQ","file":"digits/w8a8.onnx","sha256":"abababababababababababababababababababababababababababababababab","size_bytes":1234,"weights":{},"notes":[]},"steps":[]}}}},"scenarios":{"accuracy":{"repeats":1,"full_outputs":false,"warmup_min_secs":1.0,"warmup_runs":10,"min_duration_secs":10.0,"min_query_count":1024,"max_duration_secs":60.0},"latency":{"repeats":2,"full_outputs":false,"warmup_min_secs":1.0,"warmup_runs":10,"min_duration_secs":10.0,"min_query_count":1024,"max_duration_secs":60.0}},"limits":{"timeout_secs":600.0,"max_attempts":3,"orphan_after_secs":900.0},"telemetry_hz":10.0}',0,1700000000.25,'ada',NULL,NULL,'0.1.0','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',2);
CREATE TABLE job (
	id VARCHAR NOT NULL, 
	experiment_id VARCHAR NOT NULL, 
	job_key VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	variant VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	num_threads INTEGER NOT NULL, 
	provider VARCHAR NOT NULL, 
	graph_optimization VARCHAR, 
	scenario VARCHAR NOT NULL, 
	repeat INTEGER NOT NULL, 
	device_query VARCHAR NOT NULL, 
	device_id INTEGER, 
	state VARCHAR NOT NULL, 
	outcome VARCHAR, 
	error JSON, 
	attempts INTEGER NOT NULL, 
	fence INTEGER, 
	next_drive_at FLOAT, 
	progress JSON, 
	waiting_for VARCHAR, 
	submitted_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	CONSTRAINT pk_job PRIMARY KEY (id), 
	CONSTRAINT fk_job_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiment (id), 
	CONSTRAINT fk_job_device_id FOREIGN KEY(device_id) REFERENCES device (id), 
	CONSTRAINT uq_job_experiment_id_job_key UNIQUE (experiment_id, job_key)
);
INSERT INTO "job" VALUES('j1','e1','j1','digits-cnn','w8a8','default',1,'default','all','latency',0,'all',1,'finished','completed',NULL,1,7,NULL,NULL,NULL,1700000000.25,1763686810.0);
CREATE TABLE lock (
	name VARCHAR NOT NULL, 
	holder VARCHAR NOT NULL, 
	expires_at FLOAT NOT NULL, 
	CONSTRAINT pk_lock PRIMARY KEY (name)
);
INSERT INTO "lock" VALUES('scheduler','h',2.0);
CREATE TABLE metric (
	job_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	value FLOAT, 
	unit VARCHAR NOT NULL, 
	low FLOAT, 
	high FLOAT, 
	count BIGINT, 
	cause VARCHAR, 
	CONSTRAINT pk_metric PRIMARY KEY (job_id, name), 
	CONSTRAINT fk_metric_job_id FOREIGN KEY(job_id) REFERENCES job (id)
);
INSERT INTO "metric" VALUES('j1','invoke_ms.p50',0.125,'ms',0.124,0.126,6000000000,NULL);
INSERT INTO "metric" VALUES('j1','invoke_ms.p99',NULL,'ms',NULL,NULL,40,'p99 needs 662 queries; there are 40');
CREATE TABLE reservation (
	id INTEGER NOT NULL, 
	device_id INTEGER NOT NULL, 
	holder VARCHAR NOT NULL, 
	why VARCHAR NOT NULL, 
	begins_at FLOAT NOT NULL, 
	ends_at FLOAT NOT NULL, 
	ended_at FLOAT, 
	ended_by VARCHAR, 
	ended_why VARCHAR NOT NULL, 
	CONSTRAINT pk_reservation PRIMARY KEY (id), 
	CONSTRAINT fk_reservation_device_id FOREIGN KEY(device_id) REFERENCES device (id)
);
INSERT INTO "reservation" VALUES(1,1,'ada','bring-up',1700000000.0,1700003600.0,NULL,NULL,'');
CREATE TABLE result (
	job_id VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	analysis_version INTEGER NOT NULL, 
	validity JSON NOT NULL, 
	traces JSON NOT NULL, 
	published_at FLOAT NOT NULL, 
	CONSTRAINT pk_result PRIMARY KEY (job_id), 
	CONSTRAINT fk_result_job_id FOREIGN KEY(job_id) REFERENCES job (id)
);
INSERT INTO "result" VALUES('j1',1,1,'{"level":"semivalid","reasons":[{"code":"high_variation","level":"semivalid","message":"varies by 3.1 %","value":3.1,"threshold":2.5}],"unknown":["temperature"]}','{"queries":{"sha256":"abababababababababababababababababababababababababababababababab","size_bytes":10,"rows":40}}',1763686810.0);
CREATE TABLE state_change (
	id INTEGER NOT NULL, 
	subject VARCHAR NOT NULL, 
	subject_id VARCHAR NOT NULL, 
	old VARCHAR NOT NULL, 
	new VARCHAR NOT NULL, 
	actor VARCHAR NOT NULL, 
	why VARCHAR NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_state_change PRIMARY KEY (id)
);
INSERT INTO "state_change" VALUES(1,'job','j1','collecting','finished','system','',1.0);
CREATE INDEX ix_experiment_name ON experiment (name);
CREATE INDEX ix_experiment_submitted_at ON experiment (submitted_at);
CREATE INDEX ix_job_waiting ON job (state, experiment_id);
CREATE INDEX ix_job_due ON job (next_drive_at);
CREATE INDEX ix_attempt_device_id ON attempt (device_id);
CREATE INDEX ix_state_change_subject ON state_change (subject, subject_id);
CREATE INDEX ix_device_lease_job_id ON device (lease_job_id);
CREATE INDEX ix_reservation_device_id ON reservation (device_id);
CREATE INDEX ix_job_device ON job (device_id, state, experiment_id, id);
COMMIT;
